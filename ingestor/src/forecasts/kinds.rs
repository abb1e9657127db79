//! Kinds of forecast services: what they are asked for a place, and on which terms.

use crate::config::{ProviderConfig, ProviderKind};
use almanac_domain::weather::{Place, Variable};
use url::Url;

/// One service. Its answers are read by [`super::read_of`].
pub(crate) trait ForecastKind: Sync {
    /// What it can give, at some places at least.
    fn variables(&self) -> &'static [Variable];

    /// What the licence of the data asks to be shown.
    fn attribution(&self) -> &'static str;

    /// Whether requests must say who sends them.
    fn must_identify(&self) -> bool;

    /// What is asked for a place, the first that counts first.
    fn products(&self, config: &ProviderConfig) -> Vec<Product>;
}

const KINDS: [(ProviderKind, &dyn ForecastKind); 2] =
    [(ProviderKind::MetNorway, &MetNorway), (ProviderKind::OpenMeteo, &OpenMeteo)];

/// `None` for kinds that give no forecasts.
pub(crate) fn kind_of(kind: ProviderKind) -> Option<&'static dyn ForecastKind> {
    KINDS.into_iter().find(|(known, _)| *known == kind).map(|(_, kind)| kind)
}

/// One address of a service.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub(crate) name: &'static str,
    /// Without the place; keys may stand in it.
    pub(crate) address: String,
    position: [&'static str; 2],
    query: Vec<(&'static str, String)>,
    /// The models that it is asked for.
    pub(crate) models: Vec<String>,
    /// The status that says that nothing is known of the place.
    pub(crate) no_data_status: Option<u16>,
}

impl Product {
    /// The address of a place.
    pub(crate) fn url(&self, base: &Url, place: Place) -> Url {
        let mut url = base.clone();
        let [lat, lon] = self.position;
        url.query_pairs_mut()
            .append_pair(lat, &place.lat().to_string())
            .append_pair(lon, &place.lon().to_string())
            .extend_pairs(self.query.iter().map(|(name, value)| (*name, value.as_str())));
        url
    }
}

/// The configured address, or the service's own.
fn or_else(configured: &almanac_secrets::Address, own: &str) -> String {
    if configured.is_empty() { own.to_owned() } else { configured.expose().to_owned() }
}

struct MetNorway;

impl ForecastKind for MetNorway {
    fn variables(&self) -> &'static [Variable] {
        use Variable::{CurrentSpeed, WaveHeight, WindGust, WindSpeed};
        &[WaveHeight, WindSpeed, WindGust, CurrentSpeed]
    }

    fn attribution(&self) -> &'static str {
        "Data from MET Norway (https://api.met.no/), CC BY 4.0"
    }

    fn must_identify(&self) -> bool {
        true
    }

    fn products(&self, config: &ProviderConfig) -> Vec<Product> {
        let product = |name, address| Product {
            name,
            address,
            position: ["lat", "lon"],
            query: Vec::new(),
            models: Vec::new(),
            no_data_status: Some(422),
        };
        let own = |name: &str| format!("https://api.met.no/weatherapi/{name}/2.0/complete");
        let [location, ocean] = ["locationforecast", "oceanforecast"];
        vec![
            product(location, or_else(&config.url, &own(location))),
            product(ocean, or_else(&config.forecasts.marine_url, &own(ocean))),
        ]
    }
}

/// What Open-Meteo's marine endpoint is asked for when nothing else is configured.
pub(crate) const DEFAULT_MODELS: [&str; 4] =
    ["meteofrance_wave", "ecmwf_wam025", "ncep_gfswave025", "meteofrance_currents"];

/// The step of a model that Open-Meteo interpolates to hours, in seconds.
pub(super) fn native_step_s(model: &str) -> Option<i64> {
    const HOUR: i64 = 3_600;
    match model {
        "meteofrance_wave" | "ecmwf_wam025" => Some(3 * HOUR),
        "meteofrance_currents"
        | "ewam"
        | "gwam"
        | "ncep_gfswave025"
        | "ncep_gfswave016"
        | "era5_ocean" => Some(HOUR),
        _ => None,
    }
}

struct OpenMeteo;

impl ForecastKind for OpenMeteo {
    fn variables(&self) -> &'static [Variable] {
        &Variable::ALL
    }

    fn attribution(&self) -> &'static str {
        "Weather data by Open-Meteo.com (https://open-meteo.com/), CC BY 4.0"
    }

    fn must_identify(&self) -> bool {
        false
    }

    fn products(&self, config: &ProviderConfig) -> Vec<Product> {
        let product = |name, address, hourly: &str, models: &[String]| {
            let mut query = vec![
                ("hourly", hourly.to_owned()),
                // Naive times have one offset for the whole answer, which is wrong beyond a clock change.
                ("timezone", "GMT".to_owned()),
                ("timeformat", "iso8601".to_owned()),
                ("wind_speed_unit", "ms".to_owned()),
                ("length_unit", "metric".to_owned()),
                ("cell_selection", "sea".to_owned()),
            ];
            if !models.is_empty() {
                query.push(("models", models.join(",")));
            }
            Product {
                name,
                address,
                position: ["latitude", "longitude"],
                query,
                models: models.to_vec(),
                no_data_status: None,
            }
        };
        let forecasts = &config.forecasts;
        vec![
            product(
                "weather",
                or_else(&config.url, "https://api.open-meteo.com/v1/forecast"),
                "wind_speed_10m,wind_gusts_10m,visibility",
                &[],
            ),
            product(
                "marine",
                or_else(&forecasts.marine_url, "https://marine-api.open-meteo.com/v1/marine"),
                "wave_height,wave_period,ocean_current_velocity",
                &forecasts.marine_models,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(kind: ProviderKind) -> Vec<String> {
        let config = ProviderConfig { kind, ..crate::tests::provider("p", "") };
        let place = Place::parse("61.4951", "-4.80499").unwrap();
        let url = |product: Product| {
            product.url(&Url::parse(&product.address).unwrap(), place).to_string()
        };
        kind_of(kind).unwrap().products(&config).into_iter().map(url).collect()
    }

    /// MET Norway refuses more than four decimals; Open-Meteo's units and times are asked for.
    #[test]
    fn a_place_is_asked_for_in_the_services_words() {
        assert_eq!(
            addresses(ProviderKind::MetNorway),
            ["locationforecast", "oceanforecast"].map(|name| format!(
                "https://api.met.no/weatherapi/{name}/2.0/complete?lat=61.50&lon=-4.80"
            ))
        );
        let [weather, marine] = addresses(ProviderKind::OpenMeteo).try_into().unwrap();
        for url in [&weather, &marine] {
            assert!(url.contains("latitude=61.50&longitude=-4.80&"), "{url}");
            assert!(url.contains("timezone=GMT") && url.contains("wind_speed_unit=ms"), "{url}");
        }
        assert!(weather.contains("wind_gusts_10m") && !weather.contains("models"), "{weather}");
        let models = "models=meteofrance_wave%2Cecmwf_wam025%2Cncep_gfswave025%2C";
        assert!(marine.contains("wave_height") && marine.contains(models), "{marine}");
    }

    #[test]
    fn a_key_in_the_address_stays_there() {
        let config = ProviderConfig {
            kind: ProviderKind::OpenMeteo,
            ..crate::tests::provider(
                "p",
                "https://customer-api.open-meteo.com/v1/forecast?apikey=k",
            )
        };
        let product = kind_of(ProviderKind::OpenMeteo).unwrap().products(&config).remove(0);
        let place = Place::parse("1", "2").unwrap();
        let url = product.url(&Url::parse(&product.address).unwrap(), place).to_string();
        assert!(url.contains("?apikey=k&latitude=1.00&longitude=2.00"), "{url}");
    }
}
