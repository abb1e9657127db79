//! `wrk`, and what it asks for.

use std::{path::PathBuf, process::Command};

pub(crate) struct Load {
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Bytes of an answer, headers included, on the average.
    pub(crate) bytes: f64,
}

/// Which windows a script asks for: all within the 24 months of [`crate::feeds::feed`].
#[derive(Clone, Copy)]
pub(crate) enum Starts {
    /// At random seconds, so that hardly two are alike.
    Random,
    Same,
}

/// A script that asks for windows of so many seconds.
pub(crate) fn script(seconds: u64, starts: Starts) -> PathBuf {
    script_in(seconds, starts, None)
}

/// The same, for answers in an encoding.
pub(crate) fn script_in(seconds: u64, starts: Starts, encoding: Option<&str>) -> PathBuf {
    let headers = encoding.map_or_else(String::new, |encoding| {
        format!("wrk.headers['Accept-Encoding'] = '{encoding}'\n")
    });
    script_with(encoding.unwrap_or("plain"), seconds, starts, &headers)
}

/// The same with headers, as lines of Lua.
pub(crate) fn script_with(what: &str, seconds: u64, starts: Starts, headers: &str) -> PathBuf {
    let (name, start) = match starts {
        Starts::Random => ("random", "math.random(0, 23 * 30 * 86400)"),
        Starts::Same => ("same", "8640000"),
    };
    let text = format!(
        "{headers}math.randomseed(os.time())\nlocal base = os.time{{year=2031, month=1, day=1, hour=0}}\n\
         local function at(t) return os.date('!%Y-%m-%dT%H:%M:%SZ', t) end\n\
         request = function()\n local s = base + {start}\n\
         return wrk.format('GET', '/search?starts_at=' .. at(s) .. '&ends_at=' .. at(s + {seconds}))\nend\n"
    );
    write(&format!("{name}-{seconds}-{what}"), &text)
}

/// A script that creates the same recipe again and again.
pub(crate) fn write_script(body: &str) -> PathBuf {
    let text = format!(
        "wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\nwrk.body = [==[{body}]==]\n"
    );
    write("writes", &text)
}

/// A script that asks for these addresses, at random.
pub(crate) fn choosing_script(name: &str, paths: &[String]) -> PathBuf {
    choosing_script_with(name, paths, "")
}

/// The same with more lines of Lua.
pub(crate) fn choosing_script_with(name: &str, paths: &[String], lines: &str) -> PathBuf {
    let list: Vec<String> = paths.iter().map(|path| format!("'{path}'")).collect();
    let text = format!(
        "math.randomseed(os.time())\nlocal paths = {{{}}}\nlocal requests = {{}}\n\
         init = function(args)\n for at, path in ipairs(paths) do requests[at] = wrk.format('GET', path) end\nend\n\
         request = function()\n return requests[math.random(#requests)]\nend\n{lines}",
        list.join(",")
    );
    write(&name.replace(|one: char| !one.is_alphanumeric(), "-"), &text)
}

fn write(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("almanac-{name}-{}.lua", std::process::id()));
    std::fs::write(&path, text).expect("a temporary file");
    path
}

/// One thread, 64 connections. Blocks.
pub(crate) fn wrk(url: &str, script: &std::path::Path, seconds: u32) -> Load {
    wrk_with(url, script, seconds, 64)
}

pub(crate) fn wrk_with(
    url: &str,
    script: &std::path::Path,
    seconds: u32,
    connections: u32,
) -> Load {
    let output = Command::new("wrk")
        .args([
            "-t1",
            "-c",
            &connections.to_string(),
            "-d",
            &format!("{seconds}s"),
            "--latency",
            "-s",
        ])
        .arg(script)
        .arg(url)
        .output()
        .expect("wrk is installed (Debian: apt-get install wrk)");
    let text = String::from_utf8_lossy(&output.stdout);
    let field = |name: &str| {
        let rest = text.lines().find_map(|line| line.trim().strip_prefix(name));
        rest.unwrap_or_default().trim().to_owned()
    };
    let scaled = |text: &str, units: &[(&str, f64)]| {
        units
            .iter()
            .find_map(|(unit, scale)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * scale))
    };
    let rate: f64 = field("Requests/sec:").parse().unwrap_or(0.0);
    let sizes = [("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("B", 1.0)];
    let per_second = scaled(&field("Transfer/sec:"), &sizes).unwrap_or(0.0);
    let times = [("ms", 1.0), ("us", 1e-3), ("s", 1e3)];
    let percentile = |name: &str| scaled(&field(name), &times).unwrap_or(0.0);
    let (p50_ms, p99_ms) = (percentile("50%"), percentile("99%"));
    Load { rate, p50_ms, p99_ms, bytes: per_second / rate }
}
