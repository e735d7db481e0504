//! What a report looks like: for people, for machines, and for the tools that read histograms.
//!
//! Everything is drawn from [`crate::result::Report`] alone, so that a file of last year is drawn as today's. Nothing
//! here measures, and a run that failed shows its reasons and no figures.

mod bars;
pub mod command;
mod cores;
mod course;
mod format;
mod frame;
mod grid;
pub mod hdr;
pub mod hlog;
mod html;
pub mod json;
mod knee;
mod loss;
mod markup;
mod percentiles;
mod pictures;
mod plot;
#[cfg(test)]
mod sample;
mod scale;
mod scene;
mod strip;
mod subject;
mod summary;
mod text;
mod waterfall;

pub use summary::{Difference, compare};

use crate::result::Report;

/// A report, and what it is called beside others.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Shown where there are several.
    pub name: &'a str,
    /// What was measured.
    pub report: &'a Report,
}

/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 120;

/// The tables for a terminal: one report, or several held against the first of them.
pub fn table(sources: &[Source<'_>]) -> String {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    text::text(sources, columns.unwrap_or(COLUMNS))
}

/// The page with all pictures, in one file that needs nothing else.
pub fn html_page(sources: &[Source<'_>]) -> String {
    html::page(sources)
}

/// One picture that stands alone, for a README; `None` where the report holds no run that passed.
pub fn plot_svg(source: Source<'_>) -> Option<String> {
    plot::plot(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named<'a>(names: &[&'a str], reports: &'a [Report]) -> Vec<Source<'a>> {
        names.iter().zip(reports).map(|(name, report)| Source { name, report }).collect()
    }

    #[test]
    fn a_run_that_failed_shows_its_reason_and_no_figure() {
        let mut report = sample::report();
        report.runs.retain(|run| run.verdict != crate::result::Verdict::Passed);
        report.targets.clear();
        let sources = named(&["a"], std::slice::from_ref(&report));
        for shown in [text::text(&sources, 120), html_page(&sources)] {
            assert!(shown.contains("61234/s"), "{shown}");
            assert!(!shown.contains("polyline") && !shown.contains("+3 failed"), "{shown}");
        }
        assert!(plot_svg(sources[0]).is_none());
    }

    #[test]
    fn a_page_loads_nothing_from_elsewhere() {
        let page = html_page(&named(&["a"], &[sample::report()]));
        for forbidden in ["src=", "url(", "@import", "<link", "fetch(", "<iframe"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        let hosts = page.matches("http").count();
        assert_eq!(hosts, page.matches("\"http://www.w3.org/2000/svg\"").count());
    }

    #[test]
    fn text_from_outside_stays_text() {
        let page = html_page(&named(&["<i>a</i>", "b"], &[sample::report(), sample::faster()]));
        assert!(!page.contains("<script>alert") && !page.contains("<b>") && !page.contains("<i>"));
        assert_eq!(page.matches("<script").count(), 1);
        let report = sample::report();
        let plot = plot_svg(Source { name: "a", report: &report }).unwrap();
        assert!(plot.contains("&lt;fast &amp; cool&gt;") && !plot.contains("<fast"));
    }

    #[test]
    fn every_kind_of_picture_is_on_the_page() {
        let page = html_page(&named(&["a"], &[sample::report()]));
        for id in ["targets", "figures", "percentiles", "bars", "knee", "cores", "course", "shards", "stages"]
        {
            assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
        }
        for happened in ["snapshot", "rebalance", "failover", "stall"] {
            assert!(page.contains(&format!("class=\"happened {happened}\"")), "{happened}");
        }
        assert!(page.contains("class=\"ring") && page.contains("class=\"cross"));
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn pictures_that_are_compared_have_the_same_axes() {
        let page = html_page(&named(&["before", "after"], &[sample::report(), sample::faster()]));
        let section = page.split("id=\"percentiles\"").nth(1).unwrap().split("</section>").next().unwrap();
        let rtt = section.split("<h3>ops</h3>").next().unwrap();
        let mut axes: Vec<&str> =
            rtt.split("data-y=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(axes.len() > 4);
        axes.dedup();
        assert_eq!(axes.len(), 1, "{axes:?}");
    }

    #[test]
    fn a_fifth_faster_is_told_as_such() {
        let reports = [sample::report(), sample::faster()];
        let differences = compare(&named(&["before", "after"], &reports));
        let echo =
            differences.iter().find(|d| d.subject == "quantum" && d.measure == "round trip p50").unwrap();
        let change = echo.changes_percent[0].unwrap();
        assert!((-21.0..-19.0).contains(&change), "{change}");
        assert!(!echo.within_range[0]);
        let failed = differences.iter().find(|d| d.subject == "s2n-quic" && d.load.contains("100,000/s"));
        assert!(failed.is_none(), "figures of a failed run: {failed:?}");
    }

    #[test]
    fn an_empty_report_is_still_a_report() {
        let mut report = sample::report();
        (report.runs, report.targets) = (Vec::new(), Vec::new());
        let reports = [report.clone(), report];
        for count in 1..=2 {
            let sources = named(&["a", "b"], &reports[..count]);
            assert!(html_page(&sources).ends_with("</html>"));
            assert!(text::text(&sources, 80).contains("aether-perf"));
        }
    }
}
