//! The tools: a thin layer of MCP over the [`Archive`].
//!
//! Each execution writes one line, `executed <tool>`, to stdout: what really ran can be counted there, whatever a proxy in between claims.

use std::{
    io::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rmcp::{
    ServerHandler,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::{Implementation, ServerCapabilities, ServerConfig},
    schemars::{self, JsonSchema},
    tool, tool_handler, tool_router,
};
use serde::{Deserialize, Serialize};

use crate::archive::{Archive, Direction};

/// One MCP session's view of the archive that all sessions share.
#[derive(Debug, Clone)]
pub struct Imaging {
    archive: Arc<Mutex<Archive>>,
    tool_router: ToolRouter<Self>,
}

/// Names a data store.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfDatastore {
    /// Identifier of the data store.
    datastore_id: String,
}

/// What to search for.
#[derive(Debug, Deserialize, JsonSchema)]
struct Search {
    /// Identifier of the data store.
    datastore_id: String,
    /// Only image sets of this patient.
    patient_id: Option<String>,
}

/// Names an image set.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfImageSet {
    /// Identifier of the image set.
    image_set_id: String,
}

/// What a job copies, and where.
#[derive(Debug, Deserialize, JsonSchema)]
struct StartJob {
    /// Identifier of the data store.
    datastore_id: String,
    /// Bucket that is read or written.
    bucket: String,
}

/// Names a job.
#[derive(Debug, Deserialize, JsonSchema)]
struct OfJob {
    /// Identifier of the job.
    job_id: String,
}

/// A tool's answer: JSON as text, or the text of an error.
type Answer = Result<String, String>;

#[tool_router]
impl Imaging {
    /// A view of `archive`.
    pub fn new(archive: Arc<Mutex<Archive>>) -> Self {
        Self { archive, tool_router: Self::tool_router() }
    }

    #[tool(description = "List the data stores", annotations(read_only_hint = true))]
    fn list_datastores(&self) -> Answer {
        executed("list_datastores");
        json(&self.archive().datastores())
    }

    #[tool(description = "Describe one data store", annotations(read_only_hint = true))]
    fn get_datastore(&self, Parameters(of): Parameters<OfDatastore>) -> Answer {
        executed("get_datastore");
        json(self.archive().datastore(&of.datastore_id)?)
    }

    #[tool(description = "Search the image sets of a data store", annotations(read_only_hint = true))]
    fn search_image_sets(&self, Parameters(search): Parameters<Search>) -> Answer {
        executed("search_image_sets");
        json(&self.archive().search(&search.datastore_id, search.patient_id.as_deref())?)
    }

    #[tool(description = "Describe one image set", annotations(read_only_hint = true))]
    fn get_image_set(&self, Parameters(of): Parameters<OfImageSet>) -> Answer {
        executed("get_image_set");
        json(self.archive().image_set(&of.image_set_id)?)
    }

    #[tool(description = "Delete an image set for good", annotations(destructive_hint = true))]
    fn delete_image_set(&self, Parameters(of): Parameters<OfImageSet>) -> Answer {
        executed("delete_image_set");
        json(&self.archive().delete(&of.image_set_id)?)
    }

    #[tool(description = "Start to import DICOM images from a bucket")]
    fn start_dicom_import_job(&self, Parameters(job): Parameters<StartJob>) -> Answer {
        executed("start_dicom_import_job");
        json(&self.archive().start(Direction::Import, &job.datastore_id, &job.bucket)?)
    }

    #[tool(description = "Describe one import job", annotations(read_only_hint = true))]
    fn get_dicom_import_job(&self, Parameters(of): Parameters<OfJob>) -> Answer {
        executed("get_dicom_import_job");
        json(self.archive().job(Direction::Import, &of.job_id)?)
    }

    #[tool(description = "List the import jobs", annotations(read_only_hint = true))]
    fn list_dicom_import_jobs(&self) -> Answer {
        executed("list_dicom_import_jobs");
        json(&self.archive().jobs(Direction::Import).collect::<Vec<_>>())
    }

    #[tool(description = "Start to export DICOM images to a bucket")]
    fn start_dicom_export_job(&self, Parameters(job): Parameters<StartJob>) -> Answer {
        executed("start_dicom_export_job");
        json(&self.archive().start(Direction::Export, &job.datastore_id, &job.bucket)?)
    }

    #[tool(description = "Describe one export job", annotations(read_only_hint = true))]
    fn get_dicom_export_job(&self, Parameters(of): Parameters<OfJob>) -> Answer {
        executed("get_dicom_export_job");
        json(self.archive().job(Direction::Export, &of.job_id)?)
    }

    #[tool(description = "List the export jobs", annotations(read_only_hint = true))]
    fn list_dicom_export_jobs(&self) -> Answer {
        executed("list_dicom_export_jobs");
        json(&self.archive().jobs(Direction::Export).collect::<Vec<_>>())
    }

    fn archive(&self) -> MutexGuard<'_, Archive> {
        // Each call leaves the archive whole, so one that panicked has not spoiled it for the others.
        self.archive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Imaging {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")))
    }
}

/// Notes one execution on stdout. A closed stdout must not fail the call.
fn executed(tool: &str) {
    let _ = writeln!(std::io::stdout(), "executed {tool}");
}

fn json<T: Serialize + ?Sized>(value: &T) -> Answer {
    serde_json::to_string(value).map_err(|error| error.to_string())
}
