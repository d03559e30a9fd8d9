//! Two plots as SVG: the e-process of single rollouts against its limit, and the time to find a regression by its size.

use std::fmt::Write as _;
use std::path::Path;

use weir::model::rollout::RolloutPlan;
use weir::rollout::judge::Judge;

use crate::world::{Run, World};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 40.0;

/// Writes them below `target/evidence` and says where.
pub(crate) fn write(plan: &RolloutPlan, curve: &[(&str, f64, Option<f64>)]) -> std::io::Result<String> {
    let directory = Path::new("target/evidence");
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("e-process.svg"), e_processes(plan))?;
    std::fs::write(directory.join("detection.svg"), detection(curve))?;
    Ok("target/evidence/e-process.svg, target/evidence/detection.svg".into())
}

fn e_processes(plan: &RolloutPlan) -> String {
    let mut svg = begin("evidence against the candidate over an hour (limit 200)");
    let x = |second: f64| LEFT + second / 3600.0 * (WIDTH - LEFT - 30.0);
    let y = |e: f64| {
        let level = e.max(1e-3).log10().clamp(-3.0, 4.0);
        HEIGHT - BOTTOM - (level + 3.0) / 7.0 * (HEIGHT - BOTTOM - 30.0)
    };
    for power in -3..=4 {
        let at = y(10_f64.powi(power));
        let _ = write!(svg, "<text x='{}' y='{}' text-anchor='end'>1e{power}</text>", LEFT - 6.0, at + 4.0);
    }
    for minute in [0, 10, 20, 30, 40, 50, 60] {
        let at = x(f64::from(minute) * 60.0);
        let _ = write!(svg, "<text x='{at}' y='{}' text-anchor='middle'>{minute} min</text>", HEIGHT - 16.0);
    }
    let limit = y(200.0);
    let _ =
        write!(svg, "<line x1='{LEFT}' x2='{WIDTH}' y1='{limit}' y2='{limit}' stroke='#c33' stroke-dasharray='6 4'/>");
    let runs = [(1.0, "#8a8"), (1.0, "#8a8"), (1.0, "#8a8"), (2.0, "#c80"), (5.0, "#c33")];
    for (seed, (times, colour)) in (1..).zip(runs) {
        let mut run = Run::new(World::plain("", 100.0, 0.005).worse(times, 0.0), seed);
        let mut judge = Judge::new(plan);
        let mut path = String::new();
        for index in 1..=360 {
            let second = f64::from(index) * 10.0;
            let judgement = judge.observe(&run.tick(second, 10.0));
            let e = judgement.gates.iter().find(|gate| gate.kind == "error_rate").and_then(|gate| gate.e_value);
            let _ = write!(path, "{}{:.1},{:.1} ", if index == 1 { "M" } else { "L" }, x(second), y(e.unwrap_or(1.0)));
        }
        let _ = write!(svg, "<path d='{path}' fill='none' stroke='{colour}' stroke-width='1.5'/>");
    }
    let legend = "green: three healthy ones; orange: 2 times the errors; red: 5 times; dashed: the limit";
    svg + &format!("<text x='610' y='265' text-anchor='end'>{legend}</text></svg>")
}

fn detection(curve: &[(&str, f64, Option<f64>)]) -> String {
    let mut svg = begin("median time to find more errors (base 0.5 %, ramp 1, 5, 25 %)");
    let x = |times: f64| LEFT + times.log10() / 50_f64.log10() * (WIDTH - LEFT - 30.0);
    let y = |seconds: f64| HEIGHT - BOTTOM - seconds.max(1.0).log10() / 3600_f64.log10() * (HEIGHT - BOTTOM - 30.0);
    for (seconds, text) in [(1.0, "1 s"), (10.0, "10 s"), (60.0, "1 min"), (600.0, "10 min"), (3600.0, "1 h")] {
        let at = y(seconds);
        let _ = write!(svg, "<text x='{}' y='{}' text-anchor='end'>{text}</text>", LEFT - 6.0, at + 4.0);
        let _ = write!(svg, "<line x1='{LEFT}' x2='{WIDTH}' y1='{at:.1}' y2='{at:.1}' stroke='#ddd'/>");
    }
    for times in [1.5, 2.0, 5.0, 20.0, 50.0] {
        let _ = write!(svg, "<text x='{}' y='{}' text-anchor='middle'>{times}×</text>", x(times), HEIGHT - 16.0);
    }
    for (load, colour) in [("100/s", "#36c"), ("1000/s", "#c33")] {
        let points = curve.iter().filter(|(name, ..)| name.starts_with("errors") && name.ends_with(load));
        let points = points.filter(|(name, ..)| !name.contains(" of "));
        let points: Vec<_> = points.filter_map(|(_, times, found)| Some((x(*times), y((*found)?)))).collect();
        let line = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
        let _ = write!(svg, "<polyline points='{line}' fill='none' stroke='{colour}' stroke-opacity='0.4'/>");
        for (x, y) in points {
            let _ = write!(svg, "<circle cx='{x:.1}' cy='{y:.1}' r='4' fill='{colour}'/>");
        }
    }
    svg + "<text x='400' y='40'>blue: 100/s; red: 1000/s</text></svg>"
}

fn begin(title: &str) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' font-family='sans-serif' \
         font-size='11'><rect width='100%' height='100%' fill='white'/>\
         <text x='70' y='18' font-size='13'>{title}</text>"
    )
}
