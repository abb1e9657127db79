//! What commands print. A reader that has seen enough closes the pipe (`almanac plans | head`): that ends
//! the command, and is no error.

use std::{
    fmt::Arguments,
    io::{self, ErrorKind, Write},
};

/// Prints a line to the standard output.
macro_rules! say {
    ($($arguments:tt)*) => { $crate::say::line(format_args!($($arguments)*)) };
}
pub(crate) use say;

pub(crate) fn line(line: Arguments<'_>) {
    ended(writeln!(io::stdout(), "{line}"));
}

/// Text that ends its own lines.
pub(crate) fn text(text: &str) {
    ended(io::stdout().write_all(text.as_bytes()));
}

/// Beside what a command prints: a line on the standard error.
pub(crate) fn tell(line: &str) {
    eprintln!("{line}");
}

/// For what somebody follows: what was said is not kept back.
pub(crate) fn flush() {
    ended(io::stdout().flush());
}

fn ended(said: io::Result<()>) {
    match said {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            eprintln!("almanac: cannot write to the standard output: {error}");
            std::process::exit(1);
        }
    }
}
