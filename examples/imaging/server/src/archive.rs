//! What the service keeps: data stores, image sets and jobs, all in memory and gone with the process.

use std::collections::BTreeMap;

use rmcp::schemars::{self, JsonSchema};
use serde::Serialize;

/// A place that holds image sets.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Datastore {
    /// Identifier, as in `d-radiology`.
    pub id: String,
    /// Name for people.
    pub name: String,
}

/// The images of one series of one study.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ImageSet {
    /// Identifier, as in `i-0001`.
    pub id: String,
    /// The data store that holds it.
    pub datastore: String,
    /// Pseudonym of the patient.
    pub patient: String,
    /// DICOM modality, as in `CT`.
    pub modality: String,
    /// How many frames it has.
    pub frames: u32,
}

/// Whether a job brings images in or takes them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From a bucket into a data store.
    Import,
    /// From a data store into a bucket.
    Export,
}

/// One import or export. Nothing is copied: the job is done as soon as it is known.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Job {
    /// Identifier, as in `export-1`.
    pub id: String,
    /// Import or export.
    pub direction: Direction,
    /// The data store.
    pub datastore: String,
    /// The bucket, as given by the caller.
    pub bucket: String,
    /// Always `COMPLETED`.
    pub status: &'static str,
}

/// The service's whole state.
#[derive(Debug)]
pub struct Archive {
    datastores: Vec<Datastore>,
    image_sets: BTreeMap<String, ImageSet>,
    jobs: Vec<Job>,
}

impl Archive {
    /// Two data stores with six image sets, and no job yet.
    pub fn sample() -> Self {
        let datastores = vec![
            Datastore { id: "d-radiology".into(), name: "Radiology".into() },
            Datastore { id: "d-cardiology".into(), name: "Cardiology".into() },
        ];
        let series = [
            ("d-radiology", "p-104", "CT", 212),
            ("d-radiology", "p-104", "CR", 2),
            ("d-radiology", "p-207", "MR", 180),
            ("d-radiology", "p-311", "CT", 96),
            ("d-cardiology", "p-207", "US", 40),
            ("d-cardiology", "p-518", "XA", 350),
        ];
        let image_sets = series
            .into_iter()
            .zip(1..)
            .map(|((datastore, patient, modality, frames), number)| ImageSet {
                id: format!("i-{number:04}"),
                datastore: datastore.into(),
                patient: patient.into(),
                modality: modality.into(),
                frames,
            })
            .map(|set| (set.id.clone(), set))
            .collect();
        Self { datastores, image_sets, jobs: Vec::new() }
    }

    /// Every data store.
    pub fn datastores(&self) -> &[Datastore] {
        &self.datastores
    }

    /// The data store of that identifier.
    pub fn datastore(&self, id: &str) -> Result<&Datastore, String> {
        self.datastores.iter().find(|store| store.id == id).ok_or_else(|| format!("there is no data store {id}"))
    }

    /// The image sets of a data store; only one patient's where one is given.
    pub fn search(&self, datastore: &str, patient: Option<&str>) -> Result<Vec<&ImageSet>, String> {
        self.datastore(datastore)?;
        Ok(self
            .image_sets
            .values()
            .filter(|set| set.datastore == datastore && patient.is_none_or(|wanted| set.patient == wanted))
            .collect())
    }

    /// The image set of that identifier.
    pub fn image_set(&self, id: &str) -> Result<&ImageSet, String> {
        self.image_sets.get(id).ok_or_else(|| format!("there is no image set {id}"))
    }

    /// Removes an image set for good.
    pub fn delete(&mut self, id: &str) -> Result<ImageSet, String> {
        self.image_sets.remove(id).ok_or_else(|| format!("there is no image set {id}"))
    }

    /// Starts a job, which is done at once.
    pub fn start(&mut self, direction: Direction, datastore: &str, bucket: &str) -> Result<Job, String> {
        self.datastore(datastore)?;
        let prefix = match direction {
            Direction::Import => "import",
            Direction::Export => "export",
        };
        let job = Job {
            id: format!("{prefix}-{}", self.jobs(direction).count() + 1),
            direction,
            datastore: datastore.into(),
            bucket: bucket.into(),
            status: "COMPLETED",
        };
        self.jobs.push(job.clone());
        Ok(job)
    }

    /// The jobs of one direction, oldest first.
    pub fn jobs(&self, direction: Direction) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(move |job| job.direction == direction)
    }

    /// The job of that direction and identifier.
    pub fn job(&self, direction: Direction, id: &str) -> Result<&Job, String> {
        self.jobs(direction).find(|job| job.id == id).ok_or_else(|| format!("there is no job {id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_numbered_by_direction() {
        let mut archive = Archive::sample();
        assert_eq!(archive.start(Direction::Export, "d-radiology", "research").unwrap().id, "export-1");
        assert_eq!(archive.start(Direction::Import, "d-radiology", "intake").unwrap().id, "import-1");
        assert_eq!(archive.start(Direction::Export, "d-radiology", "research").unwrap().id, "export-2");
        assert_eq!(archive.job(Direction::Export, "export-2").unwrap().bucket, "research");
        assert!(archive.job(Direction::Export, "import-1").is_err());
    }

    #[test]
    fn a_job_needs_a_data_store_that_exists() {
        let mut archive = Archive::sample();
        assert!(archive.start(Direction::Export, "d-none", "research").is_err());
        assert_eq!(archive.jobs(Direction::Export).count(), 0);
    }

    #[test]
    fn a_deleted_image_set_is_gone() {
        let mut archive = Archive::sample();
        assert_eq!(archive.search("d-radiology", Some("p-104")).unwrap().len(), 2);
        archive.delete("i-0001").unwrap();
        assert_eq!(archive.search("d-radiology", Some("p-104")).unwrap().len(), 1);
        assert!(archive.delete("i-0001").is_err());
    }
}
