//! Which files are meant, and what they hold.

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use anyhow::Context as _;
use mcp_policy::read::{self, FileError, Located, Manifest};

/// A file as it was read.
#[derive(Debug)]
pub struct Source {
    /// Its name, for people.
    pub name: String,
    /// Where it is; none for standard input.
    pub path: Option<PathBuf>,
    /// What stands in it.
    pub text: String,
    /// Whether it was named itself, and not only a folder that it is in.
    pub is_named: bool,
}

/// What a file holds.
#[derive(Debug)]
pub enum Content {
    /// Policies; none if it holds only manifests of other kinds.
    Policies(Vec<Manifest>),
    /// Cases for `mcp-policy test`.
    Cases(Box<Located>),
}

impl Source {
    /// One file.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
        Ok(Self { name: tidy(path).display().to_string(), path: Some(path.to_owned()), text, is_named: true })
    }

    /// Reads what it holds: policies, unless a document has the key `cases` at its top.
    pub fn content(&self) -> Result<Content, Vec<FileError>> {
        let mut documents = read::documents(&self.name, &self.text).map_err(|error| vec![error])?;
        let holds_cases = |document: &Located| document.value.get("cases").is_some() && document.value.get("kind").is_none();
        match documents.iter().position(holds_cases) {
            Some(0) if documents.len() == 1 => Ok(Content::Cases(Box::new(documents.remove(0)))),
            Some(i) => {
                let message = "cases stand in a file of their own, in one document".to_owned();
                let field = read::FieldError { path: "cases".to_owned(), message };
                Err(vec![FileError::new(&self.name, &documents[i].places, field)])
            }
            None => read::policies(&self.name, documents).map(Content::Policies),
        }
    }

    /// What is said of a file that was named and holds no policy.
    pub fn holds_nothing(&self) -> FileError {
        let field = read::FieldError { path: String::new(), message: "the file holds no policy".to_owned() };
        FileError { file: self.name.clone(), place: None, field }
    }
}

/// The files that are meant, in order: `-` is standard input, a folder is what is in it.
pub fn sources(paths: &[PathBuf]) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).context("failed to read standard input")?;
            sources.push(Source { name: "<stdin>".to_owned(), path: None, text, is_named: true });
        } else if path.is_dir() {
            for file in files_in(path)? {
                sources.push(Source { is_named: false, ..Source::open(&file)? });
            }
        } else {
            sources.push(Source::open(path)?);
        }
    }
    Ok(sources)
}

/// The YAML and JSON files in a folder and in the folders in it, by name. Links to folders are not followed: they can lead back.
fn files_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for (path, kind) in entries(folder)? {
        if kind.is_dir() {
            files.extend(files_in(&path)?);
        } else if is_document(&path) {
            files.push(path);
        }
    }
    Ok(files)
}

/// The YAML and JSON files of a folder itself, by name.
pub fn files_beside(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let files = entries(folder)?.into_iter().filter(|(path, kind)| !kind.is_dir() && is_document(path));
    Ok(files.map(|(path, _)| path).collect())
}

fn entries(folder: &Path) -> anyhow::Result<Vec<(PathBuf, fs::FileType)>> {
    let read = || -> io::Result<Vec<_>> {
        fs::read_dir(folder)?.map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))).collect()
    };
    let mut entries = read().with_context(|| format!("failed to read the folder {}", folder.display()))?;
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}

/// A path without detours, for people: one file has one name, which is the one that GitHub knows it by.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidy.components().next_back(), Some(Component::Normal(_))) => {
                tidy.pop();
            }
            part => tidy.push(part),
        }
    }
    tidy
}

fn is_document(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_detours() {
        let cases =
            [("./a", "a"), ("a/./b", "a/b"), ("a/../b", "b"), ("../a", "../a"), ("../../a/../b", "../../b"), ("/a/../b", "/b"), ("a", "a")];
        for (path, expected) in cases {
            assert_eq!(tidy(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}
