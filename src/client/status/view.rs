//! How a report looks: with colours on a terminal, plain elsewhere, or as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime};

use console::{Color, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::super::failure::plain;
use super::super::report::{Interruption, Output};
use super::{Item, Kind, Report, Standing};

/// The longest message that is shown to people.
const MESSAGE: usize = 200;
/// How many lines of one standing are shown to people.
const LINES: usize = 50;

/// Shows reports, one after the other.
pub struct View {
    output: Output,
    /// Only where people look.
    progress: Option<Progress>,
    live: bool,
    interruption: Interruption,
}

/// What is under way, on a terminal.
struct Progress {
    bars: MultiProgress,
    whole: ProgressBar,
    each: BTreeMap<(Kind, String), ProgressBar>,
    /// How much was under way when it was most.
    most: usize,
}

impl View {
    pub fn new(output: Output) -> Self {
        Self {
            output,
            progress: None,
            live: output == Output::Text && std::io::stderr().is_terminal(),
            interruption: Interruption::default(),
        }
    }

    /// Says all of it.
    pub fn say(&self, report: &Report) -> std::io::Result<()> {
        let text = match self.output {
            Output::Json => format!("{}\n", json_of(report)),
            Output::Text => text_of(report, console::colors_enabled()),
        };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    }

    /// Shows what is under way, until the next report.
    pub fn meanwhile(&mut self, report: &Report) {
        self.interruption.is_over();
        if self.live {
            self.progress.get_or_insert_with(Progress::new).show(report);
        }
    }

    /// The gateway cannot be asked for now.
    pub fn interrupted(&mut self, why: &str) {
        if !self.interruption.is_news(why) {
            return;
        }
        let say = || {
            drop(writeln!(
                std::io::stderr(),
                "proton-gateway: {why}; looking again"
            ));
        };
        match &self.progress {
            Some(progress) => progress.bars.suspend(say),
            None => say(),
        }
    }

    /// Takes what is live from the terminal.
    pub fn close(&mut self) {
        if let Some(progress) = self.progress.take() {
            // Where it cannot be cleared there is nobody to tell.
            drop(progress.bars.clear());
        }
    }
}

impl Progress {
    fn new() -> Self {
        let bars = MultiProgress::new();
        let whole = bars.add(ProgressBar::new(0));
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} of {len} ended ({elapsed})")
        {
            whole.set_style(style);
        }
        Self {
            bars,
            whole,
            each: BTreeMap::new(),
            most: 0,
        }
    }

    fn show(&mut self, report: &Report) {
        let under_way: BTreeMap<_, _> = report
            .items
            .iter()
            .filter(|(standing, _)| *standing == Standing::UnderWay)
            .map(|(_, item)| ((item.kind, item.name.clone()), item))
            .take(LINES)
            .collect();
        self.each.retain(|key, bar| {
            let stays = under_way.contains_key(key);
            if !stays {
                bar.finish_and_clear();
            }
            stays
        });
        for (key, item) in &under_way {
            let bar = self.each.entry(key.clone()).or_insert_with(|| {
                let bar = self.bars.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                    bar.set_style(style);
                }
                bar.enable_steady_tick(Duration::from_millis(120));
                bar
            });
            bar.set_message(line(item, report.now));
        }
        let count = report.count(None, Some(Standing::UnderWay));
        self.most = self.most.max(count);
        self.whole.set_length(self.most as u64);
        self.whole.set_position((self.most - count) as u64);
    }
}

fn style(standing: Standing, colours: bool) -> Style {
    let style = Style::new().force_styling(colours);
    match standing {
        Standing::Stuck => style.fg(Color::Magenta).bold(),
        Standing::Failed => style.fg(Color::Red).bold(),
        Standing::UnderWay => style.fg(Color::Cyan),
        Standing::Cancelled => style.fg(Color::Yellow),
        Standing::Settled => style.fg(Color::Green),
    }
}

fn text_of(report: &Report, colours: bool) -> String {
    let mut text = String::new();
    for kind in Kind::ALL {
        let mut counts: Vec<_> = Standing::ALL
            .into_iter()
            .filter_map(|standing| {
                let count = report.count(Some(kind), Some(standing));
                let shown = format!("{count} {}", standing.name());
                (count > 0).then(|| style(standing, colours).apply_to(shown).to_string())
            })
            .collect();
        if report.denied.contains(&kind) {
            if counts.is_empty() {
                let _ = writeln!(text, "{}s: not permitted", kind.name());
                continue;
            }
            counts.push("others not permitted".to_owned());
        }
        let counts = match counts.is_empty() {
            true => "none".to_owned(),
            false => counts.join(", "),
        };
        let _ = writeln!(text, "{:<14}{counts}", format!("{}s", kind.name()));
    }
    for standing in Standing::ALL {
        // What is settled needs no line of its own.
        if standing == Standing::Settled {
            continue;
        }
        let these: Vec<_> = report
            .items
            .iter()
            .filter(|(at, _)| *at == standing)
            .collect();
        if these.is_empty() {
            continue;
        }
        let heading = style(standing, colours).apply_to(standing.name());
        let _ = writeln!(text, "\n{heading}");
        for (_, item) in these.iter().take(LINES) {
            let _ = writeln!(text, "  {}", line(item, report.now));
        }
        if let Some(more) = these.len().checked_sub(LINES).filter(|more| *more > 0) {
            let _ = writeln!(text, "  and {more} more; --output json has all");
        }
    }
    text
}

fn line(item: &Item, now: SystemTime) -> String {
    let mut text = format!(
        "{:<12}{:<32} {}",
        item.kind.name(),
        plain(&item.name),
        plain(&item.status)
    );
    if let Some(lasts) = item.since.and_then(|since| now.duration_since(since).ok()) {
        let lasts = humantime::format_duration(Duration::from_secs(lasts.as_secs()));
        let _ = write!(text, ", begun {lasts} ago");
    }
    if !item.message.is_empty() {
        let message = plain(&item.message);
        let short: String = message.chars().take(MESSAGE).collect();
        let dots = if short.len() < message.len() {
            "…"
        } else {
            ""
        };
        let _ = write!(text, ": {short}{dots}");
    }
    text
}

fn json_of(report: &Report) -> Value {
    let counts = |kind| {
        if report.denied.contains(&kind) {
            return Value::Null;
        }
        let of = |standing: Standing| {
            let count = report.count(Some(kind), Some(standing));
            (standing.name().replace(' ', "_"), json!(count))
        };
        Value::Object(Standing::ALL.into_iter().map(of).collect())
    };
    let counts: serde_json::Map<_, _> = Kind::ALL
        .into_iter()
        .map(|kind| (kind.name().to_owned(), counts(kind)))
        .collect();
    let items: Vec<_> = report
        .items
        .iter()
        .map(|(standing, item)| {
            let since = item
                .since
                .map(|since| humantime::format_rfc3339_seconds(since).to_string());
            json!({
                "kind": item.kind.name(),
                "name": item.name,
                "standing": standing.name().replace(' ', "_"),
                "status": item.status,
                "message": item.message,
                "since": since,
            })
        })
        .collect();
    json!({ "counts": counts, "items": items })
}

#[cfg(test)]
mod tests {
    use super::super::look::Seen;
    use super::*;

    fn report() -> Report {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let item = |kind, name: &str, status: &str, message: &str| Item {
            kind,
            name: name.to_owned(),
            status: status.to_owned(),
            message: message.to_owned(),
            since: Some(now - Duration::from_secs(192)),
        };
        let items = vec![
            item(Kind::Environment, "prod", "SUCCEEDED", ""),
            item(Kind::Environment, "test", "IN_PROGRESS", ""),
            item(Kind::Instance, "shop/blue", "FAILED", "no\nrole\u{1b}[2J"),
        ];
        let seen = Seen {
            items,
            ..Seen::default()
        };
        Report::of(seen, now, Duration::from_secs(3600))
    }

    #[test]
    fn people_see_counts_and_then_what_is_not_settled() {
        let expected = "\
environments  1 in progress, 1 settled
services      none
pipelines     none
instances     1 failed
components    none

failed
  instance    shop/blue                        FAILED, begun 3m 12s ago: no\\nrole\\u{1b}[2J

in progress
  environment test                             IN_PROGRESS, begun 3m 12s ago
";
        assert_eq!(text_of(&report(), false), expected);
    }

    #[test]
    fn what_may_not_be_seen_is_not_counted() {
        let mut report = report();
        report.denied.extend([Kind::Instance, Kind::Component]);
        let text = text_of(&report, false);
        assert!(text.contains("\ncomponents: not permitted\n"), "{text}");
        let some = "\ninstances     1 failed, others not permitted\n";
        assert!(text.contains(some), "{text}");
        let counts = &json_of(&report)["counts"];
        assert!(counts["component"].is_null() && counts["instance"].is_null());
        assert_eq!(counts["environment"]["settled"], 1);
    }

    #[test]
    fn colours_are_only_there_where_they_are_asked_for() {
        assert!(text_of(&report(), true).contains("\u{1b}[31m"));
        assert!(!text_of(&report(), false).contains('\u{1b}'));
    }

    #[test]
    fn programs_get_all_items_and_all_counts() {
        let json = json_of(&report());
        assert_eq!(json["counts"]["environment"]["in_progress"], 1);
        assert_eq!(json["counts"]["component"]["failed"], 0);
        assert_eq!(json["items"][0]["name"], "shop/blue");
        assert_eq!(json["items"][0]["since"], "1970-01-12T13:43:28Z");
        assert_eq!(json["items"].as_array().map(Vec::len), Some(3));
    }
}
