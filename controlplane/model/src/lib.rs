//! Cluster state, the placement planner and the configuration schema; pure.
