import { expect, it } from "vitest"
import { causeOfCrash } from "../../src/runner/crash.ts"

const trace = Array.from(
  { length: 30 },
  (_, i) => `    @     0x7f25a69d90e${i}  absl::log_internal::LogMessage::Flush()`
)

it.each([
  [
    "a check of XLA, above its stack trace",
    [
      "step 3",
      "F0000 00:00:1795344562.1 16328 computation_placer.h:44] Check failed: replica_count > 0 (0 vs. 0) ",
      ...trace
    ],
    "Check failed: replica_count > 0 (0 vs. 0)"
  ],
  ["an assertion", ["node: x.c:12: f: Assertion `n > 0' failed."], "Assertion `n > 0' failed"],
  [
    "an exception",
    ["terminate called after throwing an instance of 'std::bad_alloc'", "  what():  std::bad_alloc"],
    "what():  std::bad_alloc"
  ],
  [
    "an exception without words",
    ["terminate called without an active exception"],
    "terminate called without an active exception"
  ],
  ["the allocator", ["double free or corruption (!prev)"], "double free or corruption (!prev)"],
  [
    "V8's heap",
    ["FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory"],
    "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory"
  ]
])("finds %s", (_, lines, cause) => {
  expect(causeOfCrash(lines)).toBe(cause)
})

it("is silent where nobody said anything", () => {
  expect([causeOfCrash([]), causeOfCrash(["step 1", "loss 2.3"])]).toEqual([undefined, undefined])
})
