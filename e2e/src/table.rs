//! Tables in `docs/` that tests write.

use std::{env, fs};

use crate::cluster::root;

/// A table that a test fills row by row.
#[derive(Debug)]
pub struct Table {
    head: String,
    rows: Vec<String>,
}

impl Table {
    /// One without rows.
    pub fn new(columns: &[&str]) -> Self {
        Self { head: format!("{}\n|{}", line(columns), "---|".repeat(columns.len())), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[&str]) {
        self.rows.push(line(cells));
    }

    /// Adds the rows of another.
    pub fn append(&mut self, other: Self) {
        self.rows.extend(other.rows);
    }

    /// Checks that the document has this table between the marks of that name. With `UPDATE_GOLDEN` in the environment it writes it.
    pub fn compare(&self, document: &str, name: &str) {
        let path = root().join("docs").join(document);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (begin, end) = (format!("<!-- {name}: written by a test -->\n"), format!("<!-- end of {name} -->"));
        let place = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?)));
        let (before, (written, after)) = place.unwrap_or_else(|| panic!("{document} has no place for {name}: {begin}"));
        let table = format!("\n{}\n{}\n\n", self.head, self.rows.join("\n"));
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, format!("{before}{begin}{table}{end}{after}")).unwrap();
        } else {
            assert_eq!(written, table, "{document}: run with UPDATE_GOLDEN=1 and read the difference");
        }
    }
}

fn line(cells: &[&str]) -> String {
    format!("| {} |", cells.iter().map(|cell| cell.trim().replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
}
