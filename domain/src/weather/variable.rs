//! What a forecast tells and a limit is set on.

use std::fmt;

macro_rules! variables {
    ($($name:ident = $text:literal: $meaning:literal,)*) => {
        /// The published list of variables; forecasts and limits share it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Variable {
            $(#[doc = $meaning] $name,)*
        }

        impl Variable {
            pub const ALL: [Self; 6] = [$(Self::$name,)*];

            /// The name in the public API; its end is the unit.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// What it means, for people.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }
        }
    };
}

variables! {
    WaveHeight = "wave_height_m": "significant wave height",
    WavePeriod = "wave_period_s": "wave period",
    WindSpeed = "wind_speed_ms": "wind speed at 10 m, 10-minute mean",
    WindGust = "wind_gust_ms": "wind gust at 10 m",
    CurrentSpeed = "current_speed_ms": "speed of the current at the surface",
    Visibility = "visibility_m": "visibility",
}

impl Variable {
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variable| variable.as_str() == text)
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
