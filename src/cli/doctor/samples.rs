//! The metrics of the running weir, as far as they are looked at: names, labels and values of its own text. It is no
//! general reader of the format: what is not understood is left out.

/// Every sample of an exposition.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Sample>);

#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

// === impl Samples ===

impl Samples {
    /// Reads a text.
    pub(super) fn read(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// The sum of the samples of that name with these labels; none when there is none.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Sample| {
            let holds = |(key, value): &(&str, &str)| sample.labels.iter().any(|(k, v)| k == key && v == value);
            sample.name == name && labels.iter().all(holds)
        };
        let mut found = self.0.iter().filter(has).map(|sample| sample.value).peekable();
        found.peek()?;
        Some(found.sum())
    }

    /// Every value that a label of that name has, in order.
    pub(super) fn values(&self, name: &str, label: &str) -> Vec<&str> {
        let mut values: Vec<&str> = self
            .0
            .iter()
            .filter(|sample| sample.name == name)
            .filter_map(|sample| sample.labels.iter().find(|(key, _)| key == label).map(|(_, value)| value.as_str()))
            .collect();
        values.dedup();
        values
    }
}

/// `name{label="value",…} 1.5`
fn sample(line: &str) -> Option<Sample> {
    let (rest, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (name, labels) = rest.split_once('{').unwrap_or((rest, ""));
    let mut pairs = Vec::new();
    let mut rest = labels.strip_suffix('}').unwrap_or(labels);
    while let Some((key, after)) = rest.split_once("=\"") {
        let (mut text, mut escaped, mut end) = (String::new(), false, None);
        for (at, c) in after.char_indices() {
            match c {
                '\\' if !escaped => escaped = true,
                '"' if !escaped => {
                    end = Some(at);
                    break;
                }
                c => {
                    text.push(c);
                    escaped = false;
                }
            }
        }
        pairs.push((key.trim_start_matches(',').to_owned(), text));
        rest = &after[end? + 1..];
    }
    Some(Sample { name: name.to_owned(), labels: pairs, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = "# HELP a b\na{x=\"1\",y=\"q\\\"r,s\"} 2\na{x=\"2\"} 3.5\nb 7\nnonsense\nc{x=\"open 1\n";
        let samples = Samples::read(text);
        assert_eq!(samples.sum("a", &[]), Some(5.5));
        assert_eq!(samples.sum("a", &[("y", "q\"r,s")]), Some(2.0));
        assert_eq!(samples.sum("b", &[]), Some(7.0));
        assert_eq!(samples.sum("c", &[]), None);
        assert_eq!(samples.sum("a", &[("x", "3")]), None);
        assert_eq!(samples.values("a", "x"), ["1", "2"]);
    }
}
