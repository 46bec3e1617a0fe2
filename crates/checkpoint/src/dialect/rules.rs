//! Renaming by patterns of dotted parts.

use std::collections::{BTreeSet, HashMap};

use super::How;

/// One line of a dialect's table. In `from`: `#` is a number, `%` a number whose stage is wanted, a last `**` any parts. They
/// return in `to` in the same order, `%` as the stage's number.
pub(super) struct Rule {
    pub from: &'static str,
    pub to: &'static str,
    pub how: How,
}

/// Applies a table.
pub(super) struct Renamer {
    rules: Vec<(Vec<&'static str>, &'static Rule)>,
    /// What single parts are called, applied to what `**` took.
    parts: HashMap<&'static str, &'static str>,
    /// The first package numbers stages, downsamplings and position encodings in one list, `network`. Each downsampling (it
    /// has a `proj`) begins a stage.
    downsamplings: BTreeSet<usize>,
}

impl Renamer {
    pub(super) fn new<'n>(
        rules: &'static [Rule],
        parts: &[(&'static str, &'static str)],
        names: impl Iterator<Item = &'n str>,
    ) -> Renamer {
        let downsamplings = names.filter_map(|name| {
            let (_, rest) = name.split_once(".network.")?;
            let (number, rest) = rest.split_once('.')?;
            rest.starts_with("proj.").then(|| number.parse().ok())?
        });
        Renamer {
            rules: rules.iter().map(|rule| (rule.from.split('.').collect(), rule)).collect(),
            parts: parts.iter().copied().collect(),
            downsamplings: downsamplings.collect(),
        }
    }

    /// The canonical name. The first rule that fits decides; a name that none fits stays.
    pub(super) fn rename(&self, name: &str) -> (String, How) {
        let parts: Vec<&str> = name.split('.').collect();
        for (pattern, rule) in &self.rules {
            if let Some(taken) = self.matches(pattern, &parts) {
                return (self.fill(rule.to, taken), rule.how);
            }
        }
        (name.to_string(), How::Same)
    }

    /// What the places of a pattern took, in order; `None` if it does not fit.
    fn matches(&self, pattern: &[&str], mut parts: &[&str]) -> Option<Vec<String>> {
        let mut taken = Vec::new();
        for &place in pattern {
            if place == "**" {
                let renamed: Vec<&str> =
                    parts.iter().map(|p| self.parts.get(p).copied().unwrap_or(p)).collect();
                taken.push(renamed.join("."));
                return (!parts.is_empty()).then_some(taken);
            }
            let (&part, rest) = parts.split_first()?;
            match place {
                "#" => taken.push(part.parse::<usize>().ok()?.to_string()),
                "%" => {
                    let index = part.parse::<usize>().ok()?;
                    taken.push(self.downsamplings.range(..=index).count().to_string());
                }
                _ if place == part => {}
                _ => return None,
            }
            parts = rest;
        }
        parts.is_empty().then_some(taken)
    }

    fn fill(&self, to: &str, taken: Vec<String>) -> String {
        let mut taken = taken.into_iter();
        let filled = to.split('.').map(|place| match place {
            "#" | "%" | "**" => taken.next().unwrap_or_default(),
            part => part.to_string(),
        });
        filled.collect::<Vec<_>>().join(".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &[Rule] = &[
        Rule { from: "a.network.%.proj.**", to: "b.stages.%.proj.**", how: How::Same },
        Rule { from: "a.network.%.#.**", to: "b.stages.%.blocks.#.**", how: How::Same },
        Rule { from: "a.head", to: "b.head.weight", how: How::Transpose },
    ];

    #[test]
    fn stages_are_counted_and_parts_renamed() {
        let names = ["a.network.0.3.x", "a.network.1.proj.0", "a.network.4.proj.0"];
        let renamer = Renamer::new(RULES, &[("x", "y.z")], names.into_iter());
        let renamed = |name| renamer.rename(name).0;
        assert_eq!(renamed("a.network.0.3.x"), "b.stages.0.blocks.3.y.z");
        assert_eq!(renamed("a.network.1.proj.0.x.w"), "b.stages.1.proj.0.y.z.w");
        assert_eq!(renamed("a.network.3.0.w"), "b.stages.1.blocks.0.w");
        assert_eq!(renamed("a.network.5.0.w"), "b.stages.2.blocks.0.w");
        assert_eq!(renamer.rename("a.head"), ("b.head.weight".into(), How::Transpose));
        for unknown in ["a.head.x", "a.network.0.3", "a.network.q.3.x", "", "x"] {
            assert_eq!(renamed(unknown), unknown);
        }
    }
}
