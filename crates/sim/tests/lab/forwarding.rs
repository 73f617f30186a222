//! What the lab cannot ask, since its servers refuse what they do not lead: commands that wait
//! while leadership moves must not keep the network busy (docs/bugs.md).

use crate::raft::{command, lab};
use crate::stage::{each_seed, millis};
use quorate_sim::{Request, seconds};

#[test]
fn held_commands_do_not_travel_back_and_forth_while_leadership_moves() {
    each_seed(1..=10, |seed| {
        let mut lab = lab(seed, 3);
        lab.check_one_leader();
        let leader = lab.check_one_leader();
        let [follower, heir] = [1, 2].map(|steps| lab.after(leader, steps));

        // The heir is asleep: the transfer stays open until the leader gives it up.
        lab.cluster().pause(heir, seconds(5));
        lab.cluster().transfer_leadership(heir);
        lab.run_for(millis(10));
        let before = lab.cluster().rpcs(leader);
        for number in 0..5 {
            let request = Request::Command(command(number));
            lab.cluster().submit(follower, |_, _, _| request);
        }
        lab.run_for(millis(500));
        let forwards = lab.cluster().rpcs(leader).since(&before).forwards;
        println!("seed {seed}: {forwards} batches in half a second of transfer");
        // Each request when it comes, and what waits again at each sweep of 100 ms.
        assert!(forwards <= 5 + 5, "{forwards} batches for five commands");

        // Then they are carried out, once each.
        lab.run_for(seconds(10));
        assert_eq!(lab.applied_commands(), 5);
        lab.finish();
    });
}
