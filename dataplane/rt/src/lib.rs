//! The machine underneath: glommio executors, the packet ring, log files.
