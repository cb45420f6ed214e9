//! Where policies come from. Whatever goes wrong here, what was in force stays in force.

pub mod file;
pub mod operator;
