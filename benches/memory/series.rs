//! Memory samples of a process: reading them, their CSV file, and the least-squares line.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// Header line of a file.
const HEAD: &str = "second,rss_kib,anon_kib,file_kib,threads";

/// Memory of a process (proc(5), `status`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    second: u64,
    /// Resident memory, and its anonymous and file pages; KiB.
    rss: u64,
    anon: u64,
    file: u64,
    threads: u64,
}

impl Sample {
    /// The current sample of process `id`.
    pub fn of(second: u64, id: u32) -> Sample {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let (rss, anon, file) = (number("VmRSS:"), number("RssAnon:"), number("RssFile:"));
        Sample { second, rss, anon, file, threads: number("Threads:") }
    }

    fn of_line(line: &str) -> Option<Sample> {
        let fields: Vec<u64> =
            line.split(',').map(|field| field.parse().ok()).collect::<Option<_>>()?;
        let [second, rss, anon, file, threads] = fields[..] else { return None };
        Some(Sample { second, rss, anon, file, threads })
    }
}

/// A growing file of samples.
pub struct Series(File);

impl Series {
    pub fn begin(dir: &Path, name: &str) -> Series {
        let mut file = File::create(dir.join(format!("{name}.csv"))).unwrap();
        writeln!(file, "{HEAD}").unwrap();
        Series(file)
    }

    pub fn add(&mut self, sample: Sample) {
        let Sample { second, rss, anon, file, threads } = sample;
        writeln!(self.0, "{second},{rss},{anon},{file},{threads}").unwrap();
    }
}

/// Slope of the least-squares line through `points`.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let over: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let under: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if under > 0.0 { over / under } else { 0.0 }
}

/// Prints the growth of every series in `dir`; true if all keep their budget.
pub fn report(dir: &Path, settle: u64, budget: f64) -> bool {
    let mut files: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
    files.sort();
    let mut kept = true;
    println!(
        "{:8} {:>8} {:>9} {:>9} {:>9} {:>14} {:>14}",
        "", "minutes", "RSS first", "RSS last", "RSS most", "growth MiB/h", "of it private"
    );
    for path in files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let samples: Vec<Sample> = text
            .lines()
            .filter_map(Sample::of_line)
            .filter(|one| one.second >= settle * 60)
            .collect();
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
            println!("{name:8} no sample yet after minute {settle}");
            continue;
        };
        let line = |kib: fn(&Sample) -> u64| {
            let points: Vec<_> = samples
                .iter()
                .map(|one| (one.second as f64 / 3600.0, kib(one) as f64 / 1024.0))
                .collect();
            slope(&points)
        };
        let (growth, private) = (line(|one| one.rss), line(|one| one.anon));
        let most = samples.iter().map(|one| one.rss).max().unwrap_or_default();
        let mib = |kib: u64| kib as f64 / 1024.0;
        let judged = !["demo", "sessions"].contains(&name.as_str());
        let over = judged && growth > budget;
        kept &= !over;
        let words = match (judged, over) {
            (false, _) => "no budget",
            (true, true) => "OVER BUDGET",
            (true, false) => "",
        };
        println!(
            "{name:8} {:>3}..{:>3} {:>9.2} {:>9.2} {:>9.2} {growth:>14.3} {private:>14.3}  {words}",
            first.second / 60,
            last.second / 60,
            mib(first.rss),
            mib(last.rss),
            mib(most)
        );
    }
    println!("budget {budget} MiB an hour after minute {settle}");
    kept
}
