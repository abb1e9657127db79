//! Who has the processor: a signal for so much processor time, whose handler notes the stack.
//!
//! Own code, since pprof's takes 70 MB for as long as the process lives, and brings older versions of much
//! that is here.
#![expect(unsafe_code, reason = "a signal's handler; each block says why it is sound")]

use super::stacks::{Stacks, Value};
use almanac_errors::chain;
use libc::{ITIMER_PROF, SIGPROF, c_char, itimerval, timeval};
use signal_hook_registry::SigId;
use std::{
    io, ptr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

/// Samples in a second of processor time. Not a round number, so that nothing that beats every ten
/// milliseconds is always, or never, met.
const FREQUENCY: u32 = 99;
/// Frames of a stack, the innermost.
const DEPTH: usize = 96;
/// Samples of a profile, which are 26 MB; later ones are left out.
const MOST: usize = 32 << 10;
/// Bytes of a thread's name, as systems have them.
const NAME: usize = 16;

/// Where samples go: only atomic numbers, since the handler may neither wait nor allocate.
struct Notes {
    next: AtomicUsize,
    samples: Box<[Sample]>,
}

#[derive(Default)]
struct Sample {
    /// 0 until all else is there.
    depth: AtomicUsize,
    thread: [AtomicU64; NAME / 8],
    frames: Frames,
}

struct Frames([AtomicUsize; DEPTH]);

impl Default for Frames {
    fn default() -> Self {
        Self([const { AtomicUsize::new(0) }; DEPTH])
    }
}

impl Notes {
    fn of(time: Duration) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let samples = time.as_secs() as usize * FREQUENCY as usize * processors;
        let samples = (0..samples.clamp(1, MOST)).map(|_| Sample::default()).collect();
        Self { next: AtomicUsize::new(0), samples }
    }

    /// In the handler, on the thread that was interrupted.
    fn take(&self) {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        let Some(sample) = self.samples.get(place) else { return };
        let mut name: [c_char; NAME] = [0; NAME];
        // SAFETY: the buffer is as long as is said, and the thread is this one.
        unsafe { libc::pthread_getname_np(libc::pthread_self(), name.as_mut_ptr(), NAME) };
        for (word, bytes) in sample.thread.iter().zip(name.chunks_exact(8)) {
            let bytes: [u8; 8] = std::array::from_fn(|at| bytes[at] as u8);
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
        let mut depth = 0;
        // SAFETY: what this call leaves to its caller is that no two threads unwind by Windows' dbghelp. It
        // neither allocates nor locks: glibc finds tables for unwinding without a lock since 2.35.
        unsafe {
            backtrace::trace_unsynchronized(|frame| {
                sample.frames.0[depth].store(frame.ip() as usize, Ordering::Relaxed);
                depth += 1;
                depth < DEPTH
            });
        }
        sample.depth.store(depth, Ordering::Release);
    }
}

impl Sample {
    fn thread(&self) -> String {
        let words = self.thread.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
        let name: Vec<u8> = words.take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&name).into_owned()
    }
}

/// There is one at a time.
pub(super) struct Sampling {
    notes: Arc<Notes>,
    handler: SigId,
    since: SystemTime,
}

impl Sampling {
    pub(super) fn start(time: Duration) -> io::Result<Self> {
        // The unwinder's library is loaded with its first use, which must not be the handler's.
        backtrace::trace(|_| false);
        let notes = Arc::new(Notes::of(time));
        let taken = notes.clone();
        // SAFETY: the handler does nothing but what `take` does, of which each step may be done in one. Its
        // own library keeps it until it is taken away, and what the system calls after that.
        let handler = unsafe { signal_hook_registry::register(SIGPROF, move || taken.take()) }?;
        let sampling = Self { notes, handler, since: SystemTime::now() };
        beat(1_000_000 / FREQUENCY)?;
        Ok(sampling)
    }

    pub(super) fn end(self) -> Stacks {
        let (notes, since) = (self.notes.clone(), self.since);
        drop(self);
        let period_ns = i64::from(1_000_000_000 / FREQUENCY);
        let values =
            [Value { of: "samples", unit: "count" }, Value { of: "cpu", unit: "nanoseconds" }];
        let mut stacks = Stacks::new(since, &values, period_ns);
        for sample in &notes.samples {
            let depth = sample.depth.load(Ordering::Acquire);
            if depth == 0 {
                continue;
            }
            let frames = sample.frames.0[..depth].iter();
            let at: Vec<usize> = frames.map(|frame| frame.load(Ordering::Relaxed)).collect();
            stacks.add(&at, Some(&sample.thread()), &[1, period_ns], |names| {
                // The handler, what called it, and the return from the signal.
                let is_handler = |name: &&str| name.contains("signal_hook_registry");
                names.iter().rposition(is_handler).map_or(0, |place| place + 2)
            });
        }
        stacks
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        if let Err(error) = beat(0) {
            tracing::warn!(error = %chain(&error), "the profiler's timer cannot be stopped");
        }
        signal_hook_registry::unregister(self.handler);
    }
}

/// Signals come after so many microseconds of processor time; 0: no more.
fn beat(every_us: u32) -> io::Result<()> {
    let every = timeval { tv_sec: 0, tv_usec: every_us as _ };
    let beat = itimerval { it_interval: every, it_value: every };
    // SAFETY: the value outlives the call, and nobody asks for the one before.
    match unsafe { libc::setitimer(ITIMER_PROF, &beat, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[inline(never)]
    fn works(while_below: usize, notes: &Notes) {
        let mut sum = 0_usize;
        while notes.next.load(Ordering::Relaxed) < while_below {
            for number in 0..10_000 {
                sum = black_box(sum.wrapping_add(number));
            }
        }
    }

    #[test]
    fn who_works_is_told() {
        let sampling = Sampling::start(Duration::from_secs(10)).unwrap();
        let notes = sampling.notes.clone();
        let worker = std::thread::Builder::new().name("a-worker".to_owned());
        // Other tests may be met as well.
        worker.spawn(move || works(100, &notes)).unwrap().join().unwrap();
        let stacks = sampling.end();
        assert!(stacks.total("works", 0) > 0, "{}", stacks.folded());
        let folded = stacks.folded();
        assert!(folded.lines().any(|line| line.starts_with("a-worker;")), "{folded}");
        assert!(!folded.contains("signal_hook_registry"), "{folded}");
    }

    #[test]
    fn what_is_beyond_the_notes_is_left_out() {
        let notes = Notes { next: AtomicUsize::new(0), samples: Box::new([Sample::default()]) };
        for _ in 0..3 {
            notes.take();
        }
        assert!(notes.samples[0].depth.load(Ordering::Acquire) > 3);
        assert_eq!(notes.next.load(Ordering::Relaxed), 3);
    }
}
