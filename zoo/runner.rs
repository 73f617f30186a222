//! Runs the ordinary simulator in the woven build, world after world, until a judge speaks. Does
//! not know which mutant lives: `cargo xtask zoo` says so in the environment.

use quorate_sim::World;
use std::io::Write;

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [first_seed, seed_count, steps] = numbers[..] else {
        panic!("expected: first seed, number of seeds, steps");
    };
    // What a mutant's panic says is in the breach.
    std::panic::set_hook(Box::new(|_| {}));
    for seed in (first_seed..).take(seed_count as usize) {
        say(&format!("seed {seed}"));
        // How many voters and learners there are is the seed's choice too.
        if let Err(violation) = (World { seed, node_count: 0, steps }).run() {
            let debug = format!("{:?}", violation.breach);
            let kind: String = debug.chars().take_while(|c| c.is_alphanumeric()).collect();
            let text = violation.breach.to_string().replace('\n', " ");
            if std::env::var_os("ZOO_STORY").is_some() {
                violation.story.iter().for_each(|line| say(line));
            }
            return say(&format!("killed\t{seed}\t{kind}\t{text}"));
        }
    }
    say(&format!("survived\t{}", quorate_zoo::reached()));
}

fn say(line: &str) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}
