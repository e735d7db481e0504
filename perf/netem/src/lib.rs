//! Virtual network links: sans-I/O, seeded.
