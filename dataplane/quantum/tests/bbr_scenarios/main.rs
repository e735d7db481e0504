//! BBR with real connections on paths of every kind, in virtual time: the draft's example test cases
//! (draft-ietf-ccwg-bbr-06, appendix "BBR Example Test Cases", whose names the tests bear), and what we ask of it besides.

mod bandwidth_changes;
mod drain;
mod fairness;
mod lab;
mod messages;
mod probe_bw;
mod probe_rtt;
mod rough_paths;
mod startup;
mod targets;
