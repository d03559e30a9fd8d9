//! Every parser of untrusted text against its corpus and against mutations of it: `tests/corpus/<target>/` holds what
//! people and fuzzers came up with. The checks themselves are in `tests/fuzz/targets`, which libFuzzer runs too; what
//! it finds is added to the corpus.
//!
//! The seed is printed with every failure; `WEIR_SEED` mutates the same way again, `WEIR_MUTATIONS` sets how often.

#[path = "fuzz/stage.rs"]
mod stage;
#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use targets::{ALL, Target};

/// Mutations of each corpus. All targets together take a few seconds without optimisation.
const MUTATIONS: u64 = 10_000;

/// Longest mutated input, bytes.
const BYTES_MAX: usize = 4 * 1024;

/// What parsers look out for; put in whole, because chance would hardly write it.
const WORDS: [&str; 60] = [
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    ":",
    ": ",
    ",",
    ";",
    "=",
    "\"",
    "\\",
    "/",
    "//",
    "?",
    "#",
    "%",
    "..",
    "../",
    "%2e",
    "%2F",
    "%5c",
    "%00",
    "0\r\n\r\n",
    "\u{7f}",
    "\u{e9}",
    "[",
    "]",
    "{",
    "}",
    "'",
    "-1",
    "0",
    "99999999999999999999",
    "1e9",
    "0x10",
    "HTTP/1.0",
    "HTTP/1.1",
    "GET ",
    "POST ",
    "HEAD",
    "Host: a\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: x-a\r\n",
    "Upgrade: websocket\r\n",
    "Cookie: weir=1; group=beta\r\n",
    "X-Forwarded-For: 10.0.0.2\r\n",
    "Via: 1.1 a\r\n",
    "chunked",
    "keep-alive",
    "http://",
    "/canary",
    "stable",
    "10.0.0.1",
    "${X}",
    "[engine]\n",
];

/// A small generator (xorshift64*), so that a seed is all that a run depends on.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((u128::from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)) * n as u128) >> 64) as usize
    }

    /// A range of a text, mostly short.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        let longest = if self.below(4) == 0 { len - start } else { (len - start).min(8) };
        start..start + self.below(longest + 1)
    }
}

/// One input made of two of the corpus.
fn mutated(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = corpus[dice.below(corpus.len())].clone();
    let other = &corpus[dice.below(corpus.len())];
    for _ in 0..1 + dice.below(4) {
        let range = dice.range(bytes.len());
        let word = match dice.below(8) {
            0 => Vec::new(),
            1 => bytes[dice.range(bytes.len())].to_vec(),
            2 => other[dice.range(other.len())].to_vec(),
            3 => other[dice.below(other.len() + 1)..].to_vec(),
            4 => vec![dice.below(256) as u8],
            5 => bytes.get(range.start).map(|b| b ^ (1 << dice.below(8))).into_iter().collect(),
            _ => WORDS[dice.below(WORDS.len())].into(),
        };
        let range = if dice.below(2) == 0 { range } else { range.start..range.start };
        bytes.splice(range, word);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

/// Checks one input; says which it was when it fails.
fn run(check: fn(&[u8]), bytes: &[u8], told: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(bytes))) {
        println!("{told}: {:?}", bytes.escape_ascii().to_string());
        resume_unwind(panic);
    }
}

fn corpus((target, check): Target) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let mut paths: Vec<_> =
        std::fs::read_dir(dir).expect("the corpus is there").map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    let corpus: Vec<_> = paths.iter().map(|path| std::fs::read(path).expect("readable")).collect();
    for (path, bytes) in paths.iter().zip(&corpus) {
        run(check, bytes, &path.display().to_string());
    }
    run(check, b"", "nothing");
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("WEIR_SEED").unwrap_or_else(|| std::process::id().into());
    println!("WEIR_SEED={seed}");
    let mut dice = Dice(seed | 1);
    for round in 0..number("WEIR_MUTATIONS").unwrap_or(MUTATIONS) {
        run(check, &mutated(&corpus, &mut dice), &format!("seed {seed}, round {round}"));
    }
}

/// One test for each target, so that they run side by side and each failure has its name.
macro_rules! promises {
    ($($promise:ident: $target:literal;)*) => {
        $(#[test] fn $promise() { corpus(*ALL.iter().find(|(name, _)| *name == $target).expect("a target")) })*

        #[test]
        fn every_target_is_run_and_every_corpus_has_one() {
            let run = [$($target),*];
            assert!(ALL.iter().all(|(name, _)| run.contains(name)) && run.len() == ALL.len());
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
            let dirs = std::fs::read_dir(dir).expect("the corpora");
            let mut dirs = dirs.map(|entry| entry.expect("readable").file_name());
            assert!(dirs.all(|dir| run.iter().any(|name| dir == *name)));
        }
    };
}

promises! {
    a_trace_that_is_read_is_what_stands_there: "traceparent";
    bodies_of_the_admin_api_say_what_any_parser_finds_in_them: "admin_json";
    a_cookie_that_verifies_was_issued: "affinity";
    a_balancer_speaks_for_whom_a_second_reader_finds: "announced";
    what_the_client_gets_is_the_same_answer_once: "answer";
    what_an_answer_says_of_caches_is_what_a_strict_reader_finds: "cached";
    a_chunked_body_is_what_a_second_decoder_finds_in_any_pieces: "chunked";
    a_cookie_is_the_first_of_its_name: "cookie_field";
    what_is_forwarded_is_the_same_one_request: "forward";
    our_element_of_forwarded_is_the_last_whatever_stands_before_it: "forwarded";
    the_client_is_what_trusted_proxies_vouch_for: "forwarded_for";
    frames_of_http_2_are_what_a_second_reader_finds_in_any_pieces: "h2_frames";
    fields_of_a_block_are_the_same_however_much_is_kept_and_however_they_are_written: "hpack";
    an_end_of_http_2_bears_whatever_its_peer_says: "http2_frames";
    a_path_that_is_not_ambiguous_reads_one_way: "paths";
    a_plan_is_taken_and_can_be_carried_out_or_is_refused: "plans";
    a_request_head_has_one_reading: "request_head";
    an_answer_head_has_one_reading: "response_head";
    a_request_has_one_route_and_the_reason_told_is_true: "routes";
    durations_sizes_and_networks_are_what_a_second_reader_finds: "values";
    frames_of_a_websocket_end_where_a_second_reader_finds_in_any_pieces: "socket_frames";
    an_edit_of_a_weights_file_changes_one_service: "weights_toml";
    every_configuration_is_taken_or_refused: "weir_toml";
}

#[test]
fn deep_and_long_configurations_are_refused_without_harm() {
    let check = |text: &str| {
        targets::weir_toml::check(text.as_bytes());
        targets::weights_toml::check(text.as_bytes());
    };
    for deep in ["[", "{a=", "a.", "[[a.", "\"", "'''", "a=[1,", "\u{0}", "\r", "=\n"] {
        check(&deep.repeat(3000));
    }
    check(&format!("a{} = 1", ".a".repeat(3000)));
    check(&format!("workers = {}", "9".repeat(100_000)));
    check(&format!("[services.{}]", "x".repeat(100_000)));
    check(&"x = [[[[[[[[1,]]]]]]]]\n".repeat(30_000));
    check(&(0..30_000).map(|i| format!("x{i} = 1\n")).collect::<String>());
    check(&"[[routes]]\nmatch.path = \"/a\"\n".repeat(20_000));
    let plan = |text: &str| targets::plans::check(text.as_bytes());
    for deep in ["[", "{a=", "a.", "[[a.", "{\"a\":", "[[phases]]\n", "[[gates]]\nkind = \"error_rate\"\n"] {
        plan(&deep.repeat(3000));
    }
    plan(&format!("[[phases]]\npercent = {}", "9".repeat(100_000)));
    plan(&format!("{{\"serviceName\":\"engine\",\"phases\":[{}]}}", "{},".repeat(20_000).trim_end_matches(',')));
}
