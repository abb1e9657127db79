//! A test under libFuzzer, which changes inputs, keeps those that reach code that no other reached, and goes on
//! from them.
//!
//! Programs that are not built as fuzzing/run.sh does tell it nothing of what is reached.

use crate::LONGEST;
// The archive of libFuzzer, whose entry is called below.
use libfuzzer_sys as _;
use std::{
    cell::Cell,
    env,
    ffi::{CString, c_char, c_int, c_void},
    fs,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process, ptr,
};

/// Of one input. Generous, as a failure must not be for want of time on a busy machine.
const TIMEOUT_SECONDS: u32 = 60;
const MEMORY_MB: u32 = 2_048;
const DEFAULT_SECONDS: &str = "60";

thread_local! {
    /// The test that runs: libFuzzer calls a plain function, on the thread that started it.
    static TEST: Cell<*mut c_void> = const { Cell::new(ptr::null_mut()) };
}

/// Runs for `ALMANAC_FUZZ_SECONDS` on `corpus/NAME` in `ALMANAC_FUZZ_FOLDER` (`target/fuzz`), which grows from
/// `seeds` and what is `stored`. Or as `ALMANAC_FUZZ_FLAGS` say, one a line: flags of libFuzzer, files to run alone. What fails
/// is written to `failures/NAME`. libFuzzer ends the process.
pub(crate) fn run<T: FnMut(&[u8])>(name: &str, seeds: Vec<Vec<u8>>, stored: &Path, test: T) {
    let folder = match env::var_os("ALMANAC_FUZZ_FOLDER") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz"),
    };
    let made = |kind: &str| {
        let folder = folder.join(kind).join(name);
        fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        folder
    };
    let mut arguments = vec![
        name.to_owned(),
        format!("-max_len={LONGEST}"),
        format!("-rss_limit_mb={MEMORY_MB}"),
        format!("-timeout={TIMEOUT_SECONDS}"),
        format!("-report_slow_units={TIMEOUT_SECONDS}"),
        format!("-artifact_prefix={}/", made("failures").display()),
        "-print_final_stats=1".to_owned(),
        // How near a comparison is counts as well: without it, six bytes compared one by one were not found.
        "-use_value_profile=1".to_owned(),
        // Nobody else writes to the corpus.
        "-reload=0".to_owned(),
    ];
    if let Ok(flags) = env::var("ALMANAC_FUZZ_FLAGS") {
        arguments.extend(flags.lines().map(str::to_owned));
    } else {
        // Those of an earlier run may not be the test's any more.
        fs::remove_dir_all(made("seeds")).unwrap();
        for (at, seed) in seeds.iter().enumerate() {
            fs::write(made("seeds").join(at.to_string()), seed).unwrap();
        }
        let seconds = env::var("ALMANAC_FUZZ_SECONDS");
        let seconds = seconds.as_deref().unwrap_or(DEFAULT_SECONDS);
        arguments.push(format!("-max_total_time={seconds}"));
        // It writes to the first only.
        let read = [made("corpus"), made("seeds"), stored.to_owned()];
        let read = read.iter().filter(|folder| folder.exists());
        arguments.extend(read.map(|folder| folder.display().to_string()));
    }
    let status = drive(test, arguments);
    panic!("libFuzzer did not run {name}: {status}");
}

/// Only comes back where libFuzzer takes exception to its arguments.
#[allow(unsafe_code)] // A C function is called, which comes with no wrapper but a macro that defines `main`.
fn drive<T: FnMut(&[u8])>(mut test: T, arguments: Vec<String>) -> c_int {
    unsafe extern "C" {
        fn LLVMFuzzerRunDriver(
            count: *mut c_int,
            arguments: *mut *mut *mut c_char,
            callback: extern "C" fn(*const u8, usize) -> c_int,
        ) -> c_int;
    }
    let arguments: Vec<CString> =
        arguments.into_iter().map(|argument| CString::new(argument).unwrap()).collect();
    let mut pointers: Vec<*mut c_char> =
        arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    let mut count = c_int::try_from(pointers.len()).unwrap();
    pointers.push(ptr::null_mut());
    let mut pointers = pointers.as_mut_ptr();
    TEST.set((&raw mut test).cast());
    // SAFETY: the arguments are as those of a `main`, and they and the test outlive the call, which copies the first.
    unsafe { LLVMFuzzerRunDriver(&raw mut count, &raw mut pointers, one::<T>) }
}

/// What panics is a failure, and only that: libFuzzer takes an abort for one, and writes the input to a file.
#[allow(unsafe_code)] // It is given pointers.
extern "C" fn one<T: FnMut(&[u8])>(bytes: *const u8, length: usize) -> c_int {
    // SAFETY: libFuzzer gives a copy of its input that nobody else sees; the test is of this type, and `drive`,
    // which has put it there, holds it while libFuzzer runs.
    let (bytes, test) =
        unsafe { (std::slice::from_raw_parts(bytes, length), &mut *TEST.get().cast::<T>()) };
    if std::panic::catch_unwind(AssertUnwindSafe(|| test(bytes))).is_err() {
        process::abort();
    }
    0
}
