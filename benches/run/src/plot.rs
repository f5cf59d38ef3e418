//! Bars and curves as inline SVG; colours come from the page, so that they are right in the light and in the dark.

use crate::servers::OURS;
use crate::table::{Spread, short};

const WIDTH: f64 = 860.0;
const NAMES: f64 = 170.0;
/// Room for the figure behind a bar.
const FIGURES: f64 = 170.0;
const BAR: f64 = 16.0;
const STEP: f64 = 24.0;
const CURVES: f64 = 240.0;
const LEGEND: f64 = 170.0;
const COLOURS: usize = 8;

/// One bar.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) ours: bool,
    pub(crate) figure: Spread,
}

/// One line: labels along the axis and values.
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(String, f64)>,
}

/// Beyond so many times the longest bar a spread is cut off: one disturbed round would make all bars too short to compare.
const SPREAD_MAX: f64 = 1.5;

/// Bars from zero, with the spread of the rounds as a line, which ends in an arrow where it is cut off.
pub(crate) fn bars(label: &str, bars: &[Bar]) -> String {
    let greatest =
        |of: fn(&Spread) -> f64| bars.iter().map(|bar| of(&bar.figure)).fold(0.0, f64::max);
    let most = greatest(|figure| figure.max).min(greatest(|figure| figure.median) * SPREAD_MAX);
    let most = if most > 0.0 { most } else { 1.0 };
    let scale = (WIDTH - NAMES - FIGURES) / most;
    let height = STEP * bars.len() as f64 + 4.0;
    let mut out = open(height, label);
    for (at, bar) in bars.iter().enumerate() {
        let y = STEP * at as f64 + 4.0;
        let text_y = y + BAR - 4.0;
        let middle = y + BAR / 2.0;
        let [length, min, max] = [bar.figure.median, bar.figure.min, bar.figure.max]
            .map(|value| value.clamp(0.0, most) * scale);
        let arrow = if bar.figure.max > most {
            "\u{2192} "
        } else {
            ""
        };
        let colour = if bar.ours { "ours" } else { "other" };
        let (name, figure) = (&bar.name, short(bar.figure.median));
        let (from, to, figure_x) = (NAMES + min, NAMES + max, NAMES + max + 8.0);
        let name_x = NAMES - 8.0;
        out.push_str(&format!(
            "<text x=\"{name_x}\" y=\"{text_y:.0}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{NAMES}\" y=\"{y:.0}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"var(--{colour})\"/>\
             <line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle:.0}\" y2=\"{middle:.0}\" stroke=\"var(--text)\"/>\
             <text x=\"{figure_x:.1}\" y=\"{text_y:.0}\">{arrow}{figure} <tspan class=\"soft\">{label}</tspan></text>\n"
        ));
    }
    out.push_str("</svg>\n");
    out
}

/// Lines over a common axis, the values on a logarithmic scale.
pub(crate) fn curves(label: &str, curves: &[Curve]) -> String {
    let values = || {
        let points = curves.iter().flat_map(|curve| &curve.points);
        points.map(|(_, value)| *value).filter(|value| *value > 0.0)
    };
    let (least, most) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(0.0, f64::max),
    );
    let mut axis: Vec<&str> = Vec::new();
    for (label, _) in curves.iter().flat_map(|curve| &curve.points) {
        if !axis.contains(&label.as_str()) {
            axis.push(label);
        }
    }
    if most <= 0.0 || axis.len() < 2 {
        return String::new();
    }
    let (low, high) = (least.log10().floor(), most.log10().ceil());
    let (left, right, top, bottom) = (60.0, WIDTH - LEGEND, 16.0, CURVES - 24.0);
    let x = |at: usize| left + (right - left) * at as f64 / (axis.len() - 1) as f64;
    let y = |value: f64| {
        let part = (value.max(10f64.powf(low)).log10() - low) / (high - low).max(1.0);
        bottom - (bottom - top) * part
    };
    let mut out = open(CURVES, label);
    out.push_str(&format!(
        "<text class=\"soft\" x=\"{}\" y=\"{}\">{label}</text>\n",
        left + 6.0,
        top + 4.0
    ));
    for power in low as i32..=high as i32 {
        let value = 10f64.powi(power);
        let (line, text) = (y(value), y(value) + 4.0);
        out.push_str(&format!(
            "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{line:.1}\" y2=\"{line:.1}\"/>\
             <text class=\"soft\" x=\"{}\" y=\"{text:.1}\" text-anchor=\"end\">{}</text>\n",
            left - 6.0,
            short(value)
        ));
    }
    for (at, label) in axis.iter().enumerate() {
        out.push_str(&format!(
            "<text class=\"soft\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>\n",
            x(at),
            CURVES - 6.0
        ));
    }
    for (number, curve) in curves.iter().enumerate() {
        let points = curve.points.iter().filter_map(|(label, value)| {
            let at = axis.iter().position(|known| known == label)?;
            Some(format!("{:.1},{:.1}", x(at), y(*value)))
        });
        let points: Vec<String> = points.collect();
        // Ours has its colour on every plot, and who stands first, the reference mostly, the quiet one.
        let colour = match (curve.name == OURS, number) {
            (true, _) => 0,
            (false, 0) => 1,
            (false, number) => 2 + number % (COLOURS - 2),
        };
        let (legend_x, legend_y) = (right + 16.0, 20.0 + 18.0 * number as f64);
        out.push_str(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"var(--c{colour})\" stroke-width=\"2\"/>\
             <text x=\"{legend_x}\" y=\"{legend_y}\" style=\"fill:var(--c{colour})\">{}</text>\n",
            points.join(" "),
            curve.name
        ));
    }
    out.push_str("</svg>\n");
    out
}

fn open(height: f64, label: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         aria-label=\"{label}\">\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(name: &str, values: [f64; 2]) -> Curve {
        let points = ["a", "b"].map(str::to_owned).into_iter().zip(values);
        Curve {
            name: name.to_owned(),
            points: points.collect(),
        }
    }

    #[test]
    fn a_value_of_a_power_of_ten_lies_on_its_line() {
        let plot = curves("us", &[curve("limit", [10.0, 1000.0])]);
        // 10, 100, 1000 from the bottom to the top.
        assert!(plot.contains("points=\"60.0,216.0 690.0,16.0\""), "{plot}");
        for y in ["216.0", "116.0", "16.0"] {
            assert!(plot.contains(&format!("y1=\"{y}\"")), "{y}: {plot}");
        }
    }

    #[test]
    fn a_disturbed_round_does_not_shrink_the_bars() {
        let bar = |name: &str, values: [f64; 3]| Bar {
            name: name.to_owned(),
            ours: false,
            figure: Spread::of(values.to_vec()).expect("values"),
        };
        let plot = bars(
            "ns",
            &[
                bar("limit", [90.0, 100.0, 110.0]),
                bar("ours", [95.0, 100.0, 5_000.0]),
            ],
        );
        // 520 wide, to 1.5 times the longest bar.
        assert_eq!(plot.matches("width=\"346.7\"").count(), 2, "{plot}");
        assert_eq!(plot.matches('\u{2192}').count(), 1, "{plot}");
        assert!(plot.contains("x2=\"690.0\""), "{plot}");
    }

    #[test]
    fn what_cannot_be_drawn_is_not() {
        assert_eq!(curves("us", &[]), "");
        assert_eq!(curves("us", &[curve("limit", [0.0, 0.0])]), "");
    }
}
