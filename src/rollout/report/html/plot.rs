//! Line charts as inline SVG: scales, axes, lines, bands and marks. Colours are classes of the page's style sheet, so
//! that light and dark need no other drawing.

use std::fmt::Write as _;

/// The drawing's own units; it is scaled to the page's width.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;

/// Room for the numbers at the left, the times below, the marks above and the names at the right.
const LEFT: f64 = 68.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 26.0;

/// Height of one line of small text.
const TEXT: f64 = 11.0;

/// How values become heights.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scale {
    /// From 0 to this.
    Linear(f64),
    /// Powers of ten from the first to the second.
    Log(f64, f64),
}

/// A line and what it is drawn as.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    /// Class of the style sheet.
    pub(super) class: String,
    pub(super) points: Vec<(f64, Option<f64>)>,
    /// Whether a value holds until the next, as a share does.
    pub(super) steps: bool,
}

/// An area between two values.
#[derive(Debug, Clone)]
pub(super) struct Band {
    /// Class of the style sheet.
    pub(super) class: &'static str,
    /// Seconds, lower and upper value.
    pub(super) edges: Vec<(f64, f64, f64)>,
}

/// One chart.
#[derive(Debug)]
pub(super) struct Plot {
    /// What it shows, for those who cannot see it.
    pub(super) label: String,
    pub(super) seconds: f64,
    pub(super) scale: Scale,
    /// Writes a value of the scale.
    pub(super) tick: fn(f64) -> String,
    /// Places in time with a word, such as the beginning of a phase.
    pub(super) marks: Vec<(f64, String)>,
    /// Areas between two values.
    pub(super) bands: Vec<Band>,
    pub(super) curves: Vec<Curve>,
    /// Horizontal limits with a word.
    pub(super) limits: Vec<(f64, String)>,
}

// === impl Scale ===

impl Scale {
    /// 0 at the bottom, 1 at the top.
    fn part(self, value: f64) -> f64 {
        let part = match self {
            Scale::Linear(most) => value / most,
            Scale::Log(least, most) => (value.max(least).ln() - least.ln()) / (most.ln() - least.ln()),
        };
        if part.is_finite() { part.clamp(0.0, 1.0) } else { 1.0 }
    }

    /// Values that get a line and a number.
    fn ticks(self) -> Vec<f64> {
        match self {
            Scale::Linear(most) => {
                let step = nice(most / 4.0);
                (0..=8).map(|n| f64::from(n) * step).take_while(|value| *value <= most * 1.000_1).collect()
            }
            Scale::Log(least, most) => {
                let (from, to) = (least.log10().ceil() as i32, most.log10().floor() as i32);
                let step = ((to - from) / 5 + 1).max(1);
                (from..=to).filter(|power| power.rem_euclid(step) == 0).map(|power| 10f64.powi(power)).collect()
            }
        }
    }
}

/// A step that people count in: 1, 2 or 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-12).log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| times * power >= step * 0.999);
    times.unwrap_or(10.0) * power
}

/// The top of a linear scale: a round number that nothing is above.
pub(super) fn top(most: f64) -> f64 {
    let step = nice(most.max(1e-9) / 4.0);
    (most / step).ceil().max(1.0) * step
}

// === impl Plot ===

impl Plot {
    /// The chart as an `<svg>`.
    pub(super) fn svg(&self) -> String {
        let mut svg =
            format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n", escaped(&self.label));
        self.axes(&mut svg);
        for band in &self.bands {
            self.band(&mut svg, band);
        }
        for (limit, _) in &self.limits {
            let y = self.y(*limit);
            let _ = writeln!(
                svg,
                "<line class=\"limit\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>",
                WIDTH - RIGHT
            );
        }
        for curve in &self.curves {
            self.curve(&mut svg, curve);
        }
        // Words last, so that no line runs through them.
        for (limit, word) in &self.limits {
            let (x, y, word) = (LEFT + 6.0, self.y(*limit) - 4.0, escaped(word));
            let _ = writeln!(svg, "<text class=\"limit\" x=\"{x:.1}\" y=\"{y:.1}\">{word}</text>");
        }
        svg += "</svg>\n";
        svg
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + (seconds / self.seconds).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.scale.part(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn axes(&self, svg: &mut String) {
        let (right, floor) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for value in self.scale.ticks() {
            let y = self.y(value);
            let _ = writeln!(svg, "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>");
            let (x, y, text) = (LEFT - 6.0, y + TEXT / 3.0, (self.tick)(value));
            let _ = writeln!(
                svg,
                "<text class=\"axis\" x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>",
                escaped(&text)
            );
        }
        let step = time_step(self.seconds);
        let mut at = 0.0;
        while at <= self.seconds * 1.000_1 {
            let x = self.x(at);
            let anchor = if at == 0.0 {
                "start"
            } else if x > right - 12.0 {
                "end"
            } else {
                "middle"
            };
            let y = HEIGHT - BOTTOM + 16.0;
            let _ = writeln!(
                svg,
                "<text class=\"axis\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>",
                clock(at)
            );
            at += step;
        }
        // A word that would run into the one before is left out; its line stays.
        let mut free = LEFT;
        for (at, word) in &self.marks {
            let x = self.x(*at);
            let _ = writeln!(svg, "<line class=\"mark\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{floor}\"/>");
            if x >= free {
                let _ = writeln!(
                    svg,
                    "<text class=\"mark\" x=\"{:.1}\" y=\"{}\">{}</text>",
                    x + 3.0,
                    TOP - 8.0,
                    escaped(word)
                );
                free = x + 12.0 + word.chars().count() as f64 * TEXT * 0.62;
            }
        }
    }

    fn band(&self, svg: &mut String, Band { class, edges: band }: &Band) {
        if band.len() < 2 {
            return;
        }
        let upper = band.iter().map(|(at, _, high)| format!("{:.1},{:.1}", self.x(*at), self.y(*high)));
        let lower = band.iter().rev().map(|(at, low, _)| format!("{:.1},{:.1}", self.x(*at), self.y(*low)));
        let points = upper.chain(lower).collect::<Vec<_>>().join(" ");
        let _ = writeln!(svg, "<polygon class=\"band {class}\" points=\"{points}\"/>");
    }

    /// A path with a gap wherever there is no value.
    fn curve(&self, svg: &mut String, curve: &Curve) {
        let (mut path, mut pen, mut last) = (String::new(), false, None);
        for (at, value) in &curve.points {
            let Some(value) = value else {
                pen = false;
                continue;
            };
            let (x, y) = (self.x(*at), self.y(*value));
            let _ = match (pen, curve.steps) {
                (false, _) => write!(path, "M{x:.1} {y:.1}"),
                (true, true) => write!(path, "H{x:.1}V{y:.1}"),
                (true, false) => write!(path, "L{x:.1} {y:.1}"),
            };
            (pen, last) = (true, Some((x, y)));
        }
        if let Some((x, y)) = last {
            let _ = writeln!(svg, "<path class=\"curve {}\" d=\"{path}\"/>", curve.class);
            let _ = writeln!(svg, "<circle class=\"end {}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\"/>", curve.class);
        }
    }
}

/// A distance in time that makes between four and ten numbers.
fn time_step(seconds: f64) -> f64 {
    const STEPS: [f64; 17] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0,
        86_400.0,
    ];
    STEPS.into_iter().find(|step| seconds / step <= 8.0).unwrap_or_else(|| (seconds / 8.0).ceil())
}

/// `1:02:03`, `2:03`, or `12 s` for what is short.
pub(super) fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest} s"),
        (0, _) => format!("{minutes}:{rest:02}"),
        (_, _) => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}

/// Text that stands for itself in a page.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            c if c.is_control() && c != '\n' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        let tops = [0.0043, 97.0, 1.0].map(|most| format!("{:.3}", top(most)));
        assert_eq!(tops, ["0.006", "100.000", "1.000"]);
        assert_eq!(Scale::Linear(100.0).ticks(), [0.0, 50.0, 100.0]);
        assert_eq!(Scale::Log(0.01, 1000.0).ticks().len(), 3);
        for seconds in [1.0, 59.0, 600.0, 86_400.0, 1e7] {
            let count = seconds / time_step(seconds);
            assert!(count <= 9.0, "{seconds}: {count}");
        }
        assert_eq!([clock(12.0), clock(123.0), clock(3723.0)], ["12 s", "2:03", "1:02:03"]);
    }

    #[test]
    fn a_gap_in_the_numbers_is_a_gap_in_the_line() {
        let curve = Curve {
            class: "candidate".into(),
            points: vec![(0.0, Some(1.0)), (1.0, None), (2.0, Some(2.0)), (3.0, Some(f64::INFINITY))],
            steps: false,
        };
        let plot = Plot {
            label: "a <b>".into(),
            seconds: 3.0,
            scale: Scale::Log(0.1, 10.0),
            tick: |value| value.to_string(),
            marks: vec![(1.0, "5 %".into())],
            bands: Vec::new(),
            curves: vec![curve],
            limits: vec![(5.0, "limit".into())],
        };
        let svg = plot.svg();
        let path = svg.split(" d=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        assert_eq!(path.matches('M').count(), 2, "{path}");
        assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.contains("a &lt;b&gt;"), "{svg}");
    }
}
