//! Tables that tests write into the documentation.

use std::fs;

use crate::sidecar::root;

/// Where what is written by hand ends.
const WRITTEN: &str = "<!-- What follows is written by a test. -->\n";

/// Checks that a document ends in these tables. With `UPDATE_GOLDEN` in the environment it writes them.
pub fn check(document: &str, tables: &str) {
    let path = root().join(document);
    let text = fs::read_to_string(&path).unwrap();
    let (by_hand, written) = text.split_once(WRITTEN).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, format!("{by_hand}{WRITTEN}{tables}")).unwrap();
    } else {
        assert_eq!(written, tables, "{document}: run with UPDATE_GOLDEN=1 and read the difference");
    }
}
