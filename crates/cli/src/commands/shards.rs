//! `mobileclip shards`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use mobileclip::DecodeOptions;
use mobileclip_reinforce::{Captions, contact_sheet, write_sheet};
use mobileclip_shards::{
    Cache, Dataset, Keys, Limits, Repack, Rewritten, Sample, SampleStream, Tally, expand, join, read_uids,
    repack,
};
use serde::Serialize;
use serde_json::json;

use crate::args::{
    Compress, Global, ShardsCommand, ShardsJoin, ShardsRepack, ShardsStat, ShardsTool, Unpacking,
};
use crate::interrupt::Interrupt;
use crate::output::{Outcome, Results, complain, counted, grouped, note};
use crate::progress;

pub fn run(global: &Global, args: &ShardsTool) -> anyhow::Result<Outcome> {
    match &args.command {
        ShardsCommand::Stat(args) => stat(args, false),
        ShardsCommand::Verify(args) => stat(args, true),
        ShardsCommand::Head { shards, samples, preview, teacher_widths } => {
            head(shards, *samples)?;
            if let Some(path) = preview {
                let page =
                    contact_sheet(&expand(&shards.shards)?, *samples, &Captions::Text, teacher_widths)?;
                write_sheet(path, &page)?;
            }
            Ok(Outcome::Done)
        }
        ShardsCommand::Join(args) => join_halves(global, args),
        ShardsCommand::Repack(args) => repack_all(global, args),
    }
}

/// What shards have.
#[derive(Default, Serialize)]
struct Statistics {
    shards: usize,
    bytes: u64,
    samples: usize,
    /// Count and bytes by suffix.
    members: BTreeMap<String, (usize, u64)>,
    faults: BTreeMap<String, usize>,
}

fn stat(args: &ShardsStat, decodes: bool) -> anyhow::Result<Outcome> {
    let mut statistics = Statistics::default();
    let mut faults = Tally::default();
    for shard in expand(&args.shards)? {
        statistics.shards += 1;
        let mut stream = SampleStream::open(&shard, Limits::default())?;
        statistics.bytes += stream.bytes();
        for sample in stream.by_ref() {
            let checked = sample.and_then(|sample| {
                statistics.samples += 1;
                for member in sample.members() {
                    let (count, bytes) = statistics.members.entry(member.suffix.clone()).or_default();
                    *count += 1;
                    *bytes += member.bytes.len() as u64;
                }
                match decodes && sample.picture().is_ok() {
                    true => sample.decode(&DecodeOptions::default()).map(|_| ()),
                    false => Ok(()),
                }
            });
            if let Err(fault) = checked {
                faults.add(&fault);
            }
        }
        stream.check()?;
    }
    statistics.faults = faults.counts().map(|(cause, count)| (cause.to_owned(), count)).collect();
    let mut results = Results::lock();
    if args.json {
        results.json(&statistics)?;
    } else {
        let Statistics { shards, bytes, samples, members, .. } = &statistics;
        results.line(format!("shards   {}, {} bytes", grouped(*shards as u64), grouped(*bytes)))?;
        results.line(format!("samples  {}", grouped(*samples as u64)))?;
        for (suffix, (count, bytes)) in members {
            results.line(format!(
                "  {suffix:12} {:>12}  {:>18} bytes",
                grouped(*count as u64),
                grouped(*bytes)
            ))?;
        }
        for (cause, count) in faults.counts() {
            results.line(format!("  {cause}: {}", grouped(count as u64)))?;
        }
    }
    results.flush()?;
    faults.first().iter().for_each(|fault| complain(&fault.to_string()));
    Ok(if faults.total() == 0 { Outcome::Done } else { Outcome::SomeFailed })
}

fn head(args: &ShardsStat, count: usize) -> anyhow::Result<()> {
    let mut results = Results::lock();
    let mut left = count;
    for shard in expand(&args.shards)? {
        if left == 0 {
            break;
        }
        let mut stream = SampleStream::open(&shard, Limits::default())?;
        for sample in stream.by_ref().take(left) {
            left -= 1;
            match sample {
                Err(fault) => complain(&fault.to_string()),
                Ok(sample) if args.json => results.json(&line(&sample))?,
                Ok(sample) => {
                    let members = sample.members().iter();
                    let members: Vec<String> =
                        members.map(|member| format!("{} ({})", member.suffix, member.bytes.len())).collect();
                    results.line(format!("{}  {}", sample.key(), members.join(", ")))?;
                    if let Ok(text) = sample.text() {
                        let text: String = text.chars().take(200).flat_map(char::escape_default).collect();
                        results.line(format!("  {text}"))?;
                    }
                }
            }
        }
        stream.check()?;
    }
    results.flush()
}

fn line(sample: &Sample) -> impl Serialize {
    let members: BTreeMap<&str, usize> =
        sample.members().iter().map(|member| (member.suffix.as_str(), member.bytes.len())).collect();
    json!({"shard": sample.shard(), "key": sample.key(), "members": members, "text": sample.text().ok()})
}

fn dataset(shards: &[PathBuf], unpacking: &Unpacking) -> anyhow::Result<Dataset> {
    let bytes = u64::from(unpacking.shard_cache) << 30;
    let cache = unpacking.cache.as_ref().map(|folder| Cache::new(folder, bytes));
    Dataset::open(shards, cache.as_ref(), &Limits::default(), &mut |_| {}).map_err(|error| match error {
        mobileclip_shards::Error::NoCache { .. } => anyhow!("{error}: --cache DIR"),
        error => error.into(),
    })
}

fn join_halves(global: &Global, args: &ShardsJoin) -> anyhow::Result<Outcome> {
    let first = expand(&[&args.first])?;
    let second = dataset(&expand(&[&args.second])?, &args.unpacking)?;
    let done = watched(global, second.len(), |watch| Ok(join(&first, &second, &args.output, watch)?))?;
    tell(global, args.json, &done)?;
    for (keys, has, lacks) in
        [(&done.only_first, &args.first, &args.second), (&done.only_second, &args.second, &args.first)]
    {
        if keys.count > 0 {
            let (count, first) = (counted(keys.count, "key"), keys.first.join(", "));
            complain(&format!("{count} of {has} not in {lacks}, left out: {first}"));
        }
    }
    let missing = done.only_first.count + done.only_second.count + done.faults.total();
    Ok(if missing > 0 || done.is_interrupted { Outcome::SomeFailed } else { Outcome::Done })
}

fn repack_all(global: &Global, args: &ShardsRepack) -> anyhow::Result<Outcome> {
    let uids = args.uids.as_ref().map(|path| {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        read_uids(&bytes).map_err(|reason| anyhow!("{}: {reason}", path.display()))
    });
    let packing = match args.compress {
        Compress::None => "",
        Compress::Gz => ".gz",
        Compress::Zst => ".zst",
    };
    let how = Repack {
        samples: args.samples,
        shuffle: args.shuffle,
        uids: uids.transpose()?,
        ending: mobileclip_shards::Format::from(args.format).ending().to_owned() + packing,
    };
    let dataset = dataset(&expand(&args.shards)?, &args.unpacking)?;
    let done = watched(global, dataset.len(), |watch| Ok(repack(&dataset, &how, &args.output, watch)?))?;
    tell(global, args.json, &done)?;
    Ok(if done.faults.total() > 0 || done.is_interrupted { Outcome::SomeFailed } else { Outcome::Done })
}

/// A rewrite with a bar, which Ctrl-C ends.
fn watched(
    global: &Global,
    samples: usize,
    work: impl FnOnce(&mut dyn FnMut(usize) -> ControlFlow<()>) -> anyhow::Result<Rewritten>,
) -> anyhow::Result<Rewritten> {
    let interrupt = Interrupt::watch()?;
    let bar = progress::work(global.quiet, samples, "samples");
    let done = work(&mut |written| {
        bar.set_position(written as u64);
        match interrupt.is_asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    bar.finish_and_clear();
    done
}

fn tell(global: &Global, as_json: bool, done: &Rewritten) -> anyhow::Result<()> {
    if as_json {
        let keys = |keys: &Keys| json!({"count": keys.count, "first": keys.first});
        let mut results = Results::lock();
        results.json(&json!({
            "shards": done.shards, "samples": done.samples, "interrupted": done.is_interrupted,
            "faults": done.faults.counts().collect::<BTreeMap<_, _>>(),
            "only_first": keys(&done.only_first), "only_second": keys(&done.only_second),
        }))?;
        results.flush()?;
    }
    done.faults.first().iter().for_each(|fault| complain(&fault.to_string()));
    note(global.quiet, format!("{} in {}", counted(done.samples, "sample"), counted(done.shards, "shard")));
    if done.is_interrupted {
        complain("stopped before all was written");
    }
    Ok(())
}
