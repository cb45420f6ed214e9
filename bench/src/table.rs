//! Rounds to a table in Markdown: medians, how far rounds were apart, ratios to nginx.

use std::time::Duration;

use crate::load::Run;
use crate::load::Shape;

/// What heads the rows of [`of`].
pub const HEAD: &str = "| load | | calls/s | of nginx's | p50, µs | added, of nginx's | p99, µs | CPU, µs/call | of nginx's | spread |\n\
                        |---|---|---|---|---|---|---|---|---|---|";

/// The rounds of one contestant with one load.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    rates: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    cpu: Vec<f64>,
}

impl Cell {
    /// Adds a round, and the processor time that it took.
    pub fn add(&mut self, run: &Run, cpu: Duration) {
        self.rates.push(run.rate);
        self.p50.push(run.p50);
        self.p99.push(run.p99);
        #[allow(clippy::cast_precision_loss, reason = "a number of calls")]
        self.cpu.push(cpu.as_secs_f64() * 1e6 / run.calls as f64);
    }

    /// How far the rounds' rates were apart: half of the distance between the quartiles, of the median.
    fn spread(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        (rates[rates.len() * 3 / 4] - rates[rates.len() / 4]) / 2.0 / median(&rates)
    }
}

/// The rows of one load. The first contestant is the server without a proxy, the second one nginx.
#[must_use]
pub fn of(shape: &Shape, names: &[&str], cells: &[Cell]) -> String {
    let loop_ = shape.rate.map_or_else(|| "closed".to_owned(), |rate| format!("open, {rate}/s"));
    let load = format!("{} connections, {} B, {}, {loop_}", shape.connections, shape.size, shape.form.name());
    let (direct, nginx) = (&cells[0], &cells[1]);
    let rows = names.iter().zip(cells).map(|(name, cell)| {
        let added = |cell: &Cell| median(&cell.p50) - median(&direct.p50);
        // Round by round: what disturbed one disturbed the other, too.
        let of_nginx =
            |values: &[f64], others: &[f64]| median(&values.iter().zip(others).map(|(one, other)| one / other).collect::<Vec<_>>());
        format!(
            "| {load} | {name} | {:.0} | {:.2} | {:.0} | {:.2} | {:.0} | {:.1} | {:.2} | ±{:.0} % |",
            median(&cell.rates),
            of_nginx(&cell.rates, &nginx.rates),
            median(&cell.p50),
            added(cell) / added(nginx),
            median(&cell.p99),
            median(&cell.cpu),
            of_nginx(&cell.cpu, &nginx.cpu),
            cell.spread() * 100.0,
        )
    });
    rows.collect::<Vec<_>>().join("\n")
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
