//! Bounded lock-free rings between threads.
