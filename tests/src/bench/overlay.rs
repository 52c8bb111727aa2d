//! ADD and DEL on a network of several hosts beside the same on a bridge of one host.

use pontoon_lab::{Outcome, Programs};

use super::contestant::Contestant;
use super::table::{Bar, Row, Table};
use super::{Cell, RUN};

/// What the tunnel may cost an ADD, which it finds made.
const MOST: f64 = 1.10;

/// Measures both in turn: bridge (or overlay) with an address of each family, and portmap.
pub(crate) fn measure(table: &mut Table, ours: &Programs, samples: usize) -> Outcome {
    let (bridge, overlay) = (
        Contestant::on_blocks(ours, false)?,
        Contestant::on_blocks(ours, true)?,
    );
    let (mut bridge, mut overlay) = (Cell::new(&bridge, 1)?, Cell::new(&overlay, 1)?);
    for _ in 0..samples / RUN {
        bridge.turn()?;
        overlay.turn()?;
    }
    let ((bridge_add, bridge_del), (add, del)) = (bridge.medians(), overlay.medians());
    table.push(Row {
        what: "overlay beside bridge: ADD".to_owned(),
        reference: Some(bridge_add),
        ours: add,
        unit: "ms",
        bar: Bar::Asked(
            format!("at most {MOST:.2} of bridge's"),
            add <= bridge_add * MOST,
        ),
    });
    table.push(Row {
        what: "overlay beside bridge: DEL".to_owned(),
        reference: Some(bridge_del),
        ours: del,
        unit: "ms",
        bar: Bar::None,
    });
    Ok(())
}
