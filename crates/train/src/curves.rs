//! Curves over steps, as SVG.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// A named line.
#[derive(Clone, Debug)]
pub(crate) struct Curve<'a> {
    pub name: &'a str,
    /// Steps, ascending, and values.
    pub points: Vec<(u64, f64)>,
}

/// Draws curves into an SVG; those without a number are left out.
pub(crate) fn draw(title: &str, curves: &[Curve<'_>], path: &Path) -> Result<()> {
    fs::write(path, svg(title, curves)).map_err(Error::io(path))
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 56.0;
/// More points than a picture has columns show nothing more.
const POINTS: usize = 720;
/// Of the curves, one after the other.
const COLOURS: [&str; 6] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"];

fn svg(title: &str, curves: &[Curve<'_>]) -> String {
    let finite = || curves.iter().flat_map(|c| &c.points).map(|point| point.1).filter(|v| v.is_finite());
    let (low, high) = finite().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = if low < high { (low, high) } else { (low.min(high) - 1.0, high.max(low) + 1.0) };
    let last = curves.iter().filter_map(|c| c.points.last()).map(|point| point.0).max().unwrap_or(1).max(1);
    let x = |step: u64| MARGIN + (WIDTH - 2.0 * MARGIN) * step as f64 / last as f64;
    let y = |value: f64| HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * (value - low) / (high - low);
    let text = |x: f64, y: f64, anchor: &str, colour: &str, text: &str| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        format!("<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{text}</text>\n")
    };
    let (bottom, right) = (HEIGHT - MARGIN, WIDTH - MARGIN);
    let mut drawn = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <path d=\"M{MARGIN} {MARGIN}V{bottom}H{right}\" fill=\"none\" stroke=\"#888\"/>\n"
    );
    drawn += &text(MARGIN - 6.0, MARGIN + 4.0, "end", "black", &format!("{high:.3}"));
    drawn += &text(MARGIN - 6.0, bottom + 4.0, "end", "black", &format!("{low:.3}"));
    drawn += &text(MARGIN, bottom + 18.0, "middle", "black", "0");
    drawn += &text(right, bottom + 18.0, "middle", "black", &last.to_string());
    drawn += &text(WIDTH / 2.0, MARGIN / 2.0, "middle", "black", title);
    for (number, curve) in curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points = points(curve, x, y);
        drawn += &format!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n"
        );
        if curves.len() > 1 {
            drawn += &text(right, MARGIN + 16.0 * (number + 1) as f64, "end", colour, curve.name);
        }
    }
    drawn + "</svg>\n"
}

/// A curve's points in the picture; where they lie closer than columns, means of some.
fn points(curve: &Curve<'_>, x: impl Fn(u64) -> f64, y: impl Fn(f64) -> f64) -> String {
    let finite: Vec<(u64, f64)> = curve.points.iter().copied().filter(|point| point.1.is_finite()).collect();
    let every = finite.len().div_ceil(POINTS).max(1);
    let point = |chunk: &[(u64, f64)]| {
        let mean = chunk.iter().map(|point| point.1).sum::<f64>() / chunk.len() as f64;
        let step = chunk.last().map_or(0, |point| point.0);
        format!("{:.1},{:.1}", x(step), y(mean))
    };
    finite.chunks(every).map(point).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_have_points() {
        let points = (1..=2000).map(|step| (step, 5.0 / step as f64)).collect();
        let drawn = svg("loss", &[Curve { name: "loss", points }]);
        let points = drawn.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!((400..=POINTS).contains(&points.split(' ').count()));
        assert!(drawn.contains(">5.000<") && drawn.contains(">2000<"));
        assert!(svg("loss", &[]).ends_with("</svg>\n"));
    }

    #[test]
    fn several_curves_have_names_and_one_scale() {
        let curve = |name, value| Curve { name, points: vec![(10, value), (20, f64::NAN), (30, 0.5)] };
        let drawn = svg("accuracy", &[curve("a", 0.25), curve("b & c", 0.75)]);
        assert!(drawn.contains(">0.750<") && drawn.contains(">0.250<") && drawn.contains(">b &amp; c<"));
        assert_eq!(drawn.matches("<polyline").count(), 2);
        assert!(!drawn.contains("NaN"));
    }
}
