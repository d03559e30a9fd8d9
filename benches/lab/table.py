"""Results as one Markdown table. A goal that is met has ✓, one that is missed ✗; without a goal there is no mark."""

from statistics import median

COLUMNS = {
    "weir": "weir",
    "weir-mirror": "weir, 100 % mirrored",
    "haproxy": "HAProxy",
    "nginx": "nginx",
    "nginx-tuned": "nginx, buffers tuned",
    "envoy": "Envoy",
    "caddy": "Caddy",
    "pingora": "Pingora",
}
# A proxy that used less of its core was not what limited the rate.
SATURATED = 0.93
MEDIAN_SHIFT_MS, WORST_SHIFT_MS = 2.0, 10.0


def markdown(rows, results):
    names = [name for name in COLUMNS if any(name in row.peers for row in rows)]
    lines = ["| | goal | " + " | ".join(COLUMNS[name] for name in names) + " |", "|---" * (len(names) + 2) + "|"]
    for row in rows:
        if row.key in results:
            cells = [cell(row, results[row.key], name) for name in names]
            lines.append(f"| {row.title} | {goal(row)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def goal(row):
    sign = "≤" if row.key == "p99" else "≥"
    return row.wanted or ", ".join(f"{COLUMNS[name]} {sign} {ratio}" for name, ratio in row.goals.items())


def cell(row, result, name):
    if name not in row.peers:
        return ""
    if not result["samples"].get(name):
        return "not measured"
    return measured(row, result, name) + (" (broke off)" if name in result["broken"] else "")


def measured(row, result, name):
    samples = result["samples"][name]
    if row.key.startswith(("shift", "reloads")):
        return change(row.key, samples[0])
    if result["value"] == "ratio":
        return scaling(samples, row.goals.get(name))
    middle = middle_of(samples, result["value"])
    if result["value"] == "bytes":
        mark = tick(middle <= row.goals[name]) if name in row.goals else ""
        return f"{middle / 1024:.1f} KiB{mark}"
    smaller_is_better = result["value"] == "added_p99_us"
    text = f"+{middle:.0f} µs" if smaller_is_better else rate(samples)
    ratios = [sample["weir_over_this"] for sample in samples if "weir_over_this" in sample]
    if not ratios:
        return text + trouble(samples)
    ratio, wanted = median(ratios), row.goals.get(name)
    met = wanted is not None and (ratio <= wanted if smaller_is_better else ratio >= wanted)
    return f"**{ratio:.2f}**{'' if wanted is None else tick(met)} ({text}){trouble(samples)}"


def middle_of(samples, key):
    return median(sample[key] for sample in samples)


def rate(samples):
    per_second = middle_of(samples, "rate")
    shown = f"{per_second / 1000:.1f} k/s" if per_second >= 10_000 else f"{per_second:.0f}/s"
    user, kernel = middle_of(samples, "user_us"), middle_of(samples, "kernel_us")
    ratios = [sample["weir_cpu_over_this"] for sample in samples if "weir_cpu_over_this" in sample]
    cpu = f", weir {median(ratios):.2f} of it" if ratios else ""
    return f"{shown}, {user:.1f} + {kernel:.1f} µs{cpu}"


def scaling(samples, wanted):
    ratio = middle_of(samples, "ratio")
    if samples[0]["enough"]:
        return f"**{ratio:.2f}**{'' if wanted is None else tick(ratio >= wanted)}"
    projected = middle_of(samples, "projected")
    mark = "" if wanted is None else tick(projected >= wanted)
    return f"too few cores: {ratio:.2f} measured, {projected:.2f}{mark} projected from CPU time"


def change(key, seen):
    clean = seen["failed"] == 0 and seen["closed"] == 0 and seen["without_effect"] == 0
    damage = f"{seen['failed']} failed, {seen['closed']} closed, {seen['without_effect']} without effect"
    if key == "reloads":
        return f"{damage} of {seen['requests']} requests{tick(clean)}"
    if key == "shift-put":
        met = clean and seen["old_after"] == 0
        return f"{seen['old_after']} requests in {seen['changes']} shifts; {damage}{tick(met)}"
    lag = f"median {seen['median_ms']:.2f} ms, p99 {seen['p99_ms']:.2f} ms, worst {seen['worst_ms']:.2f} ms"
    met = clean and seen["median_ms"] <= MEDIAN_SHIFT_MS and seen["worst_ms"] <= WORST_SHIFT_MS
    return f"{lag}; {damage}{tick(met)}"


def tick(met):
    return " ✓" if met else " ✗"


def trouble(samples):
    failed = sum(sample.get("failed", 0) for sample in samples)
    late = sum(sample.get("unanswered", 0) for sample in samples)
    idle = median(sample.get("busy", 1.0) for sample in samples) < SATURATED
    notes = [f"{failed} failed"] * bool(failed) + [f"{late} unanswered"] * bool(late) + ["not saturated"] * idle
    return f" ({', '.join(notes)})" if notes else ""
