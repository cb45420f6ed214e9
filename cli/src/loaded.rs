//! The policies that a call is asked about.

use std::collections::BTreeMap;

use mcp_policy::read::{FileError, Manifest, Place};
use mcp_policy::{Policies, Policy, PolicyId, Step};

/// Policies that are in force together, and the files that they stand in.
#[derive(Debug)]
pub struct Loaded {
    /// All of them together.
    pub policies: Policies,
    /// Each by itself.
    pub each: Vec<Policy>,
    manifests: Vec<Manifest>,
}

impl Loaded {
    /// Compiles policies of files; or tells everything that is wrong with them.
    pub fn of_files(manifests: Vec<Manifest>) -> Result<Self, Vec<FileError>> {
        let mut errors = Vec::new();
        let mut each = Vec::new();
        let mut seen = BTreeMap::new();
        for manifest in &manifests {
            if let Some(first) = seen.insert(manifest.id.clone(), manifest.file()) {
                errors.push(manifest.named_twice(first));
            }
            match manifest.compile() {
                Ok(policy) => each.push(policy),
                Err(wrong) => errors.extend(wrong),
            }
        }
        let callers_prove = manifests.iter().any(|manifest| manifest.mode.is_enforce() && manifest.server.authentication.is_some());
        if errors.is_empty() { Ok(Self { policies: together(&each, callers_prove), each, manifests }) } else { Err(errors) }
    }

    /// Policies that stand in no file. `callers_prove` says whether one that enforces asks callers who they are.
    pub fn of_cluster(each: Vec<Policy>, callers_prove: bool) -> Self {
        Self { policies: together(&each, callers_prove), each, manifests: Vec::new() }
    }

    /// The file of a policy.
    pub fn file(&self, id: &PolicyId) -> Option<&str> {
        self.manifest(id).map(Manifest::file)
    }

    /// Where the field stands that a step or a decision points to.
    pub fn place(&self, id: &PolicyId, pointer: &str) -> Option<Place> {
        self.manifest(id)?.place(pointer)
    }

    /// `policy.yaml:3`, if the step's policy stands in a file.
    pub fn line_of(&self, step: &Step) -> Option<String> {
        let file = self.file(&step.policy)?;
        Some(self.place(&step.policy, &step.pointer).map_or_else(|| file.to_owned(), |place| format!("{file}:{}", place.line)))
    }

    fn manifest(&self, id: &PolicyId) -> Option<&Manifest> {
        self.manifests.iter().find(|manifest| manifest.id == *id)
    }
}

fn together(each: &[Policy], callers_prove: bool) -> Policies {
    let policies = Policies::new(each.to_vec());
    if callers_prove { policies.with_callers_that_prove() } else { policies }
}
