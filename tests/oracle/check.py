"""Computes again what weir's statistics say, by other means, and compares.

    cargo run --example numbers | python3 tests/oracle/check.py

What the formulas share with PyPI `confseq` (the beta-binomial mixture, the band of Howard and Ramdas) is compared with
it; everything is compared with the formulas of the sources written down here once more in 40 digits (mpmath). Numbers
agree when they differ by at most 1e-9 of their size. Exit 1 when one does not, 3 when confseq is not installed.
"""

import json
import sys

from mpmath import mp, mpf, exp, log, loggamma, sqrt

try:
    from confseq import boundaries, quantiles
except ImportError:
    boundaries = quantiles = None

mp.dps = 40
TOLERANCE = 1e-9

# The mixture over ratios: alternatives as multiples of the border, and what each weighs.
TIMES = [mpf(x) for x in ("1.5", "2", "3", "4", "6", "8", "12", "16", "32", "64", "128", "256")]
WEIGHTS = [mpf(x) for x in (".14", ".22", ".14", ".10", ".09", ".08", ".07", ".06", ".05", ".03", ".01", ".01")]
# The mixture over rates above a constant (parts of the way to 1), and over rates below it (parts of it, weights).
ABOVE = [mpf(x) for x in (".05", ".1", ".2", ".4", ".7", ".95")]
BELOW = [(mpf(a), mpf(w)) for a, w in ((".001", ".7"), (".1", ".1"), (".3", ".1"), (".6", ".1"))]
# Ratios whose exclusion is looked at: 2^(i/6 - 3); what each is tested against lies so many steps below.
GRID = [mpf(2) ** (mpf(i) / 6 - 3) for i in range(64)]
STEPS = (2, 4, 6, 8, 12, 15, 18, 24)
BURST = 4  # nats: the most that a tick with several bad events of the candidate may say


class Restarted:
    """A mixture that begins again every epoch; copy k weighs 1/(k(k+1)) and counts as 1 until it begins."""

    def __init__(self, weights, epoch_ms):
        self.weights, self.epoch_ms, self.since, self.copies = weights, epoch_ms, 0, [[mpf(0)] * len(weights)]

    def passes(self, ms):
        self.since += ms
        if self.since >= self.epoch_ms and len(self.copies) < 100:
            self.since = 0
            self.copies.append([mpf(0)] * len(self.weights))

    def add(self, logs):
        self.copies = [[a + b for a, b in zip(copy, logs)] for copy in self.copies]

    def ln_e(self, dispersion):
        e = mpf(1) / (len(self.copies) + 1)
        for k, copy in enumerate(self.copies, 1):
            e += sum(w * exp(s / dispersion) for w, s in zip(self.weights, copy)) / (k * (k + 1))
        return log(e)


def ratio(case):
    margin, d = mpf(case["margin"]), mpf(case["dispersion"])
    worse, beyond = Restarted(WEIGHTS, case["epochMs"]), Restarted(WEIGHTS, case["epochMs"])
    grid, items, bads, weighted = [mpf(0)] * 64, [0, 0], [0, 0], [mpf(0), mpf(0)]
    for ms, n_c, n_s, x_c, x_s in case["ticks"]:
        worse.passes(ms)
        beyond.passes(ms)
        q, m = mpf(n_c) / (n_c + n_s), x_c + x_s
        base = mpf(bads[1]) / items[1] if items[1] else mpf(0)
        items, bads = [items[0] + n_c, items[1] + n_s], [bads[0] + x_c, bads[1] + x_s]
        weighted = [weighted[0] + x_c * (1 - q), weighted[1] + x_s * q]
        if m == 0 or q == 0 or q == 1:
            continue
        # Binomial: the candidate's part of m events has the probability p(r).
        p = lambda r: q * r / (q * r + 1 - q)
        tick = lambda r, r0: x_c * log(p(r) / p(r0)) + x_s * log((1 - p(r)) / (1 - p(r0)))
        cut = lambda value: min(value, BURST) if x_c > 1 else value
        grid = [g + tick(r, mpf(1)) for g, r in zip(grid, GRID)]
        worse.add([cut(tick(times, mpf(1))) for times in TIMES])
        if 1 - margin * base > mpf("0.05"):
            null = max(margin * (1 - base) / (1 - margin * base), margin)  # the odds ratio of the margin
            beyond.add([cut(tick(null * times, null)) for times in TIMES])

    def below(i):
        parts = [exp((grid[i - step] - grid[i]) / d) / len(STEPS) for step in STEPS if i >= step]
        return log(sum(parts)) if parts else mpf("-inf")

    excluded = None
    for i in reversed(range(64)):
        if below(i) < log(20):
            break
        excluded = GRID[i]
    at_two = next(i for i, r in enumerate(GRID) if r >= 2 * (1 - mpf(10) ** -9))
    return {
        "worse": worse.ln_e(d),
        "beyond": beyond.ln_e(d),
        "notWorseThan2": below(at_two),
        "excluded": excluded,
        "estimate": weighted[0] / weighted[1] if weighted[1] else None,
    }


def guard(case):
    top, d = mpf(case["max"]), mpf(case["dispersion"])
    above, sums = Restarted([mpf(1) / 6] * 6, case["epochMs"]), [mpf(0)] * 4
    for ms, n, _, x, _ in case["ticks"]:
        above.passes(ms)
        rates = [top + part * (1 - top) for part in ABOVE]
        above.add([x * log(r / top) + (n - x) * log((1 - r) / (1 - top)) for r in rates])
        sums = [s + x * log(a) + (n - x) * log((1 - a * top) / (1 - top)) for s, (a, _) in zip(sums, BELOW)]
    return {"above": above.ln_e(d), "below": log(sum(w * exp(s / d) for s, (_, w) in zip(sums, BELOW)))}


def mismatch(case):
    """A Dirichlet prior of weight 100 around the shares against exactly these shares."""
    total = mpf(0)
    for share, a, b in case["parts"]:
        shares, k = (mpf(share), 1 - mpf(share)), 100
        total += loggamma(k) - loggamma(k + a + b)
        for part, count in zip(shares, (a, b)):
            total += loggamma(k * part + count) - loggamma(k * part) - count * log(part)
    return {"value": total}


def mismatch_of_confseq(case):
    """Its two-sided beta-binomial mixture, tuned so that its prior is the same."""
    total, alpha = 0.0, 0.05
    for share, a, b in case["parts"]:
        n, g, h = a + b, share, 1 - share
        spread = 2 * float(log(1 / mpf(alpha))) + float(log(1 + 2 * log(1 / mpf(alpha))))
        tuned = (100 * g * h + g * h) * spread
        total += float(boundaries.beta_binomial_log_mixture(a - n * share, g * h * n, tuned, g, h, alpha, False))
    return {"value": total}


def band(case):
    """0.85·sqrt((ln(1 + ln(n/100)) + C)/n), with C solved from the source's theorem 2."""
    a, alpha, n = mpf("0.85"), mpf(case["alpha"]), mpf(case["n"])

    def error(c, eta):
        gamma = 2 / eta * (a - sqrt(2 * (eta - 1) / c)) ** 2
        return 4 * exp(-gamma * c) * (1 + 1 / ((gamma - 1) * log(eta)))

    def least(c):
        low, high = mpf(1), 2 * a * a
        for _ in range(80):  # the largest eta that the theorem allows: gamma is 1 there
            middle = (low + high) / 2
            low, high = (middle, high) if sqrt(middle / 2) + sqrt(2 * (middle - 1) / c) < a else (low, middle)
        left, right, golden = mpf(1), low, (sqrt(mpf(5)) - 1) / 2
        for _ in range(90):
            x, y = right - golden * (right - left), left + golden * (right - left)
            left, right = (left, y) if error(c, x) < error(c, y) else (x, right)
        return error(c, (left + right) / 2)

    key = case["alpha"]
    if key not in SOLVED:
        low, high = mpf(5), mpf(20)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if least(middle) > alpha else (low, middle)
        SOLVED[key] = low
    return {"value": a * sqrt((log(1 + log(n / 100)) + SOLVED[key]) / n)}


SOLVED = {}


def band_of_confseq(case):
    return {"value": float(quantiles.empirical_process_lil_bound(case["n"], case["alpha"], 100.0, 0.85))}


def wilson(case):
    """The rates at which a score test does not refuse what was seen: roots of n(p̂ − p)² = z²p(1 − p)."""
    n, z2 = mpf(case["items"]), mpf(case["z"]) ** 2
    rate = mpf(case["bad"]) / n
    a, b, c = n + z2, -(2 * n * rate + z2), n * rate**2
    root = sqrt(b * b - 4 * a * c)
    return {"value": [(-b - root) / (2 * a), (-b + root) / (2 * a)]}


def dispersion(case):
    tests = [Restarted(WEIGHTS, case["epochMs"]) for _ in range(2)]
    blocks = {size: [[0, mpf(0), mpf(0)], 0, mpf(0), mpf(0)] for size in (1, 10, 100, 1000)}
    for ms, n_a, n_b, x_a, x_b in case["ticks"]:
        q, m = mpf(n_a) / (n_a + n_b), x_a + x_b
        for size, scale in blocks.items():
            part = scale[0]
            part[0], part[1], part[2] = part[0] + 1, part[1] + x_a - m * q, part[2] + m * q * (1 - q)
            if part[0] == size:
                if part[2] > 0:
                    scale[1], scale[2], scale[3] = scale[1] + 1, scale[2] + part[1] ** 2, scale[3] + part[2]
                scale[0] = [0, mpf(0), mpf(0)]
        for test, share, x, y in ((tests[0], q, x_a, x_b), (tests[1], 1 - q, x_b, x_a)):
            test.passes(ms)
            if m:
                p = lambda r: share * r / (share * r + 1 - share)
                logs = [x * log(p(r) / p(1)) + y * log((1 - p(r)) / (1 - p(1))) for r in TIMES]
                test.add([min(value, BURST) if x > 1 else value for value in logs])
    estimate = mpf(1)
    for _, count, seen, expected in blocks.values():
        if count >= 8 and seen / expected > 1 + 2 * sqrt(mpf(2) / count):
            estimate = max(estimate, seen / expected)
    estimate = min(estimate, 50)
    return {"estimate": estimate, "selfTest": log(sum(exp(test.ln_e(estimate)) / 2 for test in tests))}


OWN = {f.__name__: f for f in (ratio, guard, mismatch, band, wilson, dispersion)}
SHARED = {"mismatch": mismatch_of_confseq, "band": band_of_confseq}


def differences(case, name, expected):
    """The largest relative difference of a case, told when it is too large."""
    worst = 0.0
    for key, other in expected.items():
        pairs = list(zip(case[key], other)) if isinstance(other, list) else [(case[key], other)]
        for own, other in pairs:
            if own is None or other is None:
                difference = 0.0 if own is None and other is None else 1.0
            else:
                difference = float(abs(mpf(own) - other) / abs(other))
            worst = max(worst, difference)
            if difference > TOLERANCE:
                print(f"{name} {key}: weir says {own}, it is {other}")
    return worst


def main():
    cases = json.load(sys.stdin)["cases"]
    kinds = [("formulas in 40 digits", OWN)] + ([("confseq", SHARED)] if boundaries else [])
    failed = passed = 0
    for source, formulas in kinds:
        for formula, compute in formulas.items():
            own = [case for case in cases if case["formula"] == formula]
            worst = [differences(case, f"{source}: {formula}", compute(case)) for case in own]
            bad = sum(difference > TOLERANCE for difference in worst)
            failed, passed = failed + bad + (not own), passed + len(own) - bad
            print(f"{source}: {formula}: {len(own)} cases, largest difference {max(worst, default=1):.1e}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0 if boundaries else 3


if __name__ == "__main__":
    sys.exit(main())
