//! What `make demo` shows, shown twice: it must not depend on what an earlier run left behind.

use std::process::Command;

use mcp_policy_e2e::cluster::{root, run};

#[test]
fn the_demo_runs_to_its_end_and_a_second_run_shows_the_same() {
    for _ in 0..2 {
        let told = run(&mut Command::new(root().join("e2e/demo")), None).unwrap_or_else(|why| panic!("{why}"));
        assert!(told.contains("tools that the agent can see: start_dicom_export_job\n"), "{told}");
        assert_eq!(told.matches("start_dicom_export_job          passed").count(), 10, "{told}");
        assert!(told.contains("refused   limit_exceeded, retry after "), "{told}");
        assert!(told.contains("10 executed start_dicom_export_job"), "{told}");
        assert!(
            told.contains("mcp_policy_limit_refusals_total{counter=\"start_dicom_export_job_rate\",policy=\"imaging/imaging\"} 1"),
            "{told}"
        );
    }
}
