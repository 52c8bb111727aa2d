//! What an administrator does meanwhile, and programs that clear every rule.

use std::sync::PoisonError;

use pontoon_lab::Outcome;

use super::exchange::EXCHANGED;
use super::{Kind, Random, Storm};

impl Storm<'_> {
    pub(super) fn admin(&self, random: &mut Random) -> Outcome {
        let conf = self.conf.path().display().to_string();
        let bin = self.site.runtime().programs().dir().display().to_string();
        let at = ["--conf-dir", conf.as_str(), "--bin-dir", bin.as_str()];
        // What the reference has attached has no record, and is known to be alive by libcni alone.
        let network = format!("storm{}", random.below(EXCHANGED));
        let words: Vec<&str> = match random.below(7) {
            0 => vec!["ls"],
            1 => vec!["ports"],
            2 => vec!["leases", &network],
            3 => vec!["repair"],
            4 => vec!["doctor", "--fix"],
            5 => vec!["gc", &network, "--all-dead"],
            _ => return self.flush(),
        };
        let reads = ["ls", "ports", "leases", "repair"].contains(&words[0]);
        let arguments = if reads {
            words.clone()
        } else {
            [words.as_slice(), &at].concat()
        };
        let run = || self.site.pontoon(&arguments);
        let finished = if reads || self.kind == Kind::Beside {
            let _beside = self.quiet.read().unwrap_or_else(PoisonError::into_inner);
            run()?
        } else {
            let _alone = self.quiet.write().unwrap_or_else(PoisonError::into_inner);
            run()?
        };
        self.count("admin");
        // Findings of doctor are no failure of it.
        if finished.status.is_none_or(|status| status > 1) {
            self.wrong(format!(
                "pontoon {}: {:?} {}{}",
                words.join(" "),
                finished.status,
                finished.stdout,
                finished.stderr
            ));
        }
        Ok(())
    }

    /// Every rule goes; `pontoon repair` makes ours again. The reference's are lost.
    fn flush(&self) -> Outcome {
        let _alone = self.quiet.write().unwrap_or_else(PoisonError::into_inner);
        self.count("flush");
        self.site.flush()?;
        let finished = self.site.pontoon(&["repair"])?;
        if finished.status != Some(0) {
            self.wrong(format!("repair: {}{}", finished.stdout, finished.stderr));
        }
        Ok(())
    }
}
