use crate::{
    model::FlowRecord,
    report::{
        View, sanitize,
        text::{self, Ink},
        words,
    },
};

/// One request of a scan in one line: its place in the file, how grave and how much was found, for whom and where.
pub fn scanned(index: usize, flow: &FlowRecord, view: &View) -> String {
    let opening = &flow.opening;
    let place = text::right(&format!("#{index}"), PLACE);
    let (severity, ink) = match words::worst(flow) {
        Some(worst) => (worst.as_str(), Ink::of(worst)),
        None => ("-", Ink::Dim),
    };
    let findings = text::right(&text::thousands(opening.findings.len() as u64), FINDINGS);
    let destination =
        text::left(&text::fit(&sanitize(opening.destination.as_str()), DESTINATION), DESTINATION);
    let path = opening.path.split('?').next().unwrap_or_default();
    let request = match &*opening.scheme {
        words::FILE_SCHEME => path.to_owned(),
        _ => format!("{} {}{path}", opening.method, words::host(flow)),
    };
    let taken = PLACE + 2 + SEVERITY + FINDINGS + 2 + DESTINATION + 2;
    let request = text::fit_middle(&sanitize(&request), view.columns().saturating_sub(taken)).into_owned();
    let severity = view.paint(ink, text::left(severity, SEVERITY));
    format!("{place}  {severity}{findings}  {destination}  {request}").trim_end().to_owned()
}

// Columns of the cells: what real recordings need.
const PLACE: usize = 6;
const SEVERITY: usize = 8;
const FINDINGS: usize = 6;
const DESTINATION: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    #[test]
    fn a_request_is_a_line() {
        let line = scanned(7, &testing::events(), &testing::view(80));

        assert_eq!(line, "    #7  critical     3  first-party-events    POST api.anthrop…_logging/v2/batch");
    }

    // PITFALLS 32
    #[test]
    fn a_hostile_path_moves_no_terminal_and_fits() {
        let mut flow = testing::events();
        flow.opening.path = format!("/\x1b]0;x\x07{}", "long/".repeat(100)).into();

        let line = scanned(123_456, &flow, &testing::view(60));

        assert!(!line.chars().any(char::is_control) && text::width(&line) <= 60, "{line}");
    }
}
