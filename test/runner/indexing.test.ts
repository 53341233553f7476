import { describe, expect, it } from "vitest"
import { type PublishState, publishDue } from "../../src/runner/indexing.ts"

describe("when to publish", () => {
  const at = (now: number, more: Partial<PublishState> = {}) =>
    publishDue({ now, started: 0, publishedAt: 0, cost: 100, wanted: false, running: true, ...more })

  it("when something ended, and every 30 s of a long task", () => {
    expect(at(10, { wanted: true })).toBe(true)
    expect(at(29_999)).toBe(false)
    expect(at(30_000)).toBe(true)
    expect(at(30_000, { running: false })).toBe(false)
  })

  it("in a run of over 5 minutes so seldom that it costs at most 2 % of the time", () => {
    const busy = { wanted: true, cost: 1_000 }
    expect(at(299_000, { ...busy, publishedAt: 298_000 })).toBe(true)
    expect(at(301_000, { ...busy, publishedAt: 298_000 })).toBe(false)
    expect(at(347_999, { ...busy, publishedAt: 298_000 })).toBe(false)
    expect(at(348_000, { ...busy, publishedAt: 298_000 })).toBe(true)
  })
})
