//! Weaves mutants into one source text: each becomes a choice that is made at run time, and as long
//! as none lives the text does what it did. Knows nothing of files or of what the mutants mean.

use super::mutant::{Edit, Kind, Mutant};
use super::spot::locate;
use anyhow::{Context, bail};
use std::ops::Range;

/// One span of the text and what stands there for which mutant.
struct Patch<'a> {
    span: Range<usize>,
    kind: Kind,
    choices: Vec<(&'a str, &'a str)>,
}

/// Returns `text` with the edits woven in; each comes with its mutant.
///
/// # Errors
///
/// If an edit does not fit the text, or two overlap without one holding the other.
pub(crate) fn weave(text: &str, edits: &[(&Mutant, &Edit)]) -> anyhow::Result<String> {
    let mut patches: Vec<Patch> = Vec::new();
    for (mutant, edit) in edits {
        let span =
            locate(text, edit).with_context(|| format!("mutant {} in {}", mutant.id, edit.file))?;
        add(&mut patches, span, edit, &mutant.id)?;
    }
    patches.sort_by_key(|patch| (patch.span.start, std::cmp::Reverse(patch.span.end)));
    // Insertions stand before what begins at their place.
    patches.sort_by_key(|patch| (patch.span.start, !patch.span.is_empty()));
    refuse_overlaps(&patches)?;
    Ok(render(text, 0..text.len(), &patches))
}

fn add<'a>(
    patches: &mut Vec<Patch<'a>>,
    span: Range<usize>,
    edit: &'a Edit,
    id: &'a str,
) -> anyhow::Result<()> {
    let choice = (id, edit.replace.trim());
    let Some(same) = patches.iter_mut().find(|patch| patch.span == span) else {
        patches.push(Patch { span, kind: edit.kind, choices: vec![choice] });
        return Ok(());
    };
    let others = || same.choices.iter().map(|(id, _)| *id).collect::<Vec<_>>().join(", ");
    if same.kind != edit.kind {
        bail!("mutants {id} and {} change one place in different ways", others());
    }
    match edit.kind {
        Kind::Always if same.choices.iter().any(|(_, text)| *text == choice.1) => {}
        Kind::Always => bail!("mutants {id} and {} always change one place", others()),
        Kind::Expression | Kind::Statements | Kind::First | Kind::Before => {
            same.choices.push(choice);
        }
    }
    Ok(())
}

fn refuse_overlaps(patches: &[Patch]) -> anyhow::Result<()> {
    let names = |patch: &Patch| patch.choices.first().map_or("", |(id, _)| *id).to_owned();
    for (place, one) in patches.iter().enumerate() {
        for other in patches.iter().skip(place + 1) {
            let is_apart = other.span.start >= one.span.end;
            let is_within = other.span.end <= one.span.end && one.kind != Kind::Always;
            if !is_apart && !is_within {
                bail!("mutants {} and {} overlap", names(one), names(other));
            }
        }
    }
    Ok(())
}

/// The text of `span`, with the patches inside of it applied, the inner ones within the outer.
fn render(text: &str, span: Range<usize>, patches: &[Patch]) -> String {
    let mut woven = String::new();
    let mut place = span.start;
    let mut rest = patches;
    while let Some((patch, after)) = rest.split_first() {
        woven.push_str(text.get(place..patch.span.start).unwrap_or_default());
        let inner_count = after.iter().take_while(|p| p.span.start < patch.span.end).count();
        let (inner, outer) = after.split_at(inner_count);
        woven.push_str(&choose(patch, &render(text, patch.span.clone(), inner)));
        place = patch.span.end;
        rest = outer;
    }
    woven.push_str(text.get(place..span.end).unwrap_or_default());
    woven
}

/// What stands where the patch is; `original` is what stood there.
fn choose(patch: &Patch, original: &str) -> String {
    let chain = |between: &str| {
        let arm = |(id, replace): &(&str, &str)| {
            format!(
                "if quorate_zoo::lives(const {{ quorate_zoo::name(\"{id}\") }}) {{ {replace} }}"
            )
        };
        patch.choices.iter().map(arm).collect::<Vec<_>>().join(between)
    };
    match patch.kind {
        Kind::Expression => format!("({} else {{ {original} }})", chain(" else ")),
        Kind::Statements => format!("{} else {{ {original} }}", chain(" else ")),
        Kind::First | Kind::Before => chain(" "),
        Kind::Always => patch.choices.iter().map(|(_, text)| *text).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(id: &str) -> Mutant {
        let text = format!("id = \"{id}\"\nwhat = \"w\"\nbreaks = \"ES\"\n");
        toml::from_str(&text).unwrap()
    }

    fn edit(kind: &str, inside: &str, find: &str, replace: &str) -> Edit {
        let inside = if inside.is_empty() { String::new() } else { format!("in = '{inside}'\n") };
        let text = format!(
            "file = 'f'\nkind = '{kind}'\nfind = '{find}'\nreplace = '{replace}'\n{inside}"
        );
        toml::from_str(&text).unwrap()
    }

    /// Weaves, and writes the question shorter.
    fn woven(text: &str, edits: &[(&str, Edit)]) -> anyhow::Result<String> {
        let mutants: Vec<Mutant> = edits.iter().map(|(id, _)| mutant(id)).collect();
        let pairs: Vec<_> = mutants.iter().zip(edits.iter().map(|(_, edit)| edit)).collect();
        let text = weave(text, &pairs)?;
        let text = text.replace("quorate_zoo::lives(const { quorate_zoo::name(\"", "");
        Ok(text.replace("\") })", ""))
    }

    #[test]
    fn an_expression_becomes_a_choice_in_parentheses() {
        let edits = [("A1", edit("expression", "", "b && c", "true"))];
        assert_eq!(
            woven("a || b && c;", &edits).unwrap(),
            "a || (if A1 { true } else { b && c });"
        );
    }

    #[test]
    fn mutants_of_one_place_share_a_chain() {
        let edits = [
            ("A1", edit("statements", "", "b();", "")),
            ("A2", edit("statements", "", "b();", "c();")),
        ];
        assert_eq!(
            woven("a(); b();", &edits).unwrap(),
            "a(); if A1 {  } else if A2 { c(); } else { b(); }"
        );
    }

    #[test]
    fn inner_places_are_woven_into_what_the_outer_leaves() {
        let edits = [
            ("A1", edit("expression", "", "x", "y")),
            ("A2", edit("expression", "", "f(x, z)", "0")),
            ("A3", edit("expression", "", "z", "1")),
        ];
        assert_eq!(
            woven("f(x, z)", &edits).unwrap(),
            "(if A2 { 0 } else { f((if A1 { y } else { x }), (if A3 { 1 } else { z })) })"
        );
    }

    #[test]
    fn places_that_overlap_are_refused_by_name() {
        let edits = [
            ("A1", edit("expression", "", "a + b", "0")),
            ("A2", edit("expression", "", "b + c", "0")),
        ];
        let error = woven("a + b + c", &edits).unwrap_err().to_string();
        assert_eq!(error, "mutants A1 and A2 overlap");
    }

    #[test]
    fn statements_can_come_first_in_a_body() {
        let edits = [
            ("A1", edit("first", "fn f", "", "return;")),
            ("A2", edit("statements", "", "a();", "b();")),
        ];
        assert_eq!(
            woven("fn f() {a();}", &edits).unwrap(),
            "fn f() {if A1 { return; }if A2 { b(); } else { a(); }}"
        );
    }

    #[test]
    fn what_is_always_there_is_there_once() {
        let edits = [
            ("A1", edit("always", "", "const fn f", "fn f")),
            ("A2", edit("always", "", "const fn f", "fn f")),
            ("A2", edit("before", "", "b();", "a();")),
        ];
        assert_eq!(
            woven("const fn f() { b(); }", &edits).unwrap(),
            "fn f() { if A2 { a(); }b(); }"
        );
    }

    #[test]
    fn one_place_cannot_change_in_two_ways() {
        let edits = [
            ("A1", edit("statements", "", "b();", "")),
            ("A2", edit("expression", "", "b();", "c()")),
        ];
        assert!(woven("b();", &edits).is_err());
    }
}
