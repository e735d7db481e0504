//! What a report looks like: for people, for machines, and for the tools that read histograms.
//!
//! Everything is drawn from [`crate::result::Report`] alone, so that a file of last year is drawn as today's. Nothing
//! here measures, and a run that failed shows its reasons and no figures.

pub mod hdr;
