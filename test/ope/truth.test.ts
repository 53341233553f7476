/** The enumerated truth: expected votes against brute force, and importance estimates that hit it in exact expectation. */
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { type EstimatorName, valueOf } from "../../src/ope/estimators.ts"
import { makeRounds, type OpeSettings, type ScoredSlate } from "../../src/ope/rounds.ts"
import { enumeratedValue, expectedVotes, type KnownSlates, slateCount } from "../../src/ope/truth.ts"

const share = fc.double({ min: 0.02, max: 0.98, noNaN: true })
const sum = (values: ReadonlyArray<number>) => values.reduce((a, b) => a + b, 0)
const normalised = (values: ReadonlyArray<number>) => values.map((x) => x / sum(values))

/** All outcomes of independent trials with their probabilities. */
const outcomes = (
  p: ReadonlyArray<number>
): ReadonlyArray<{ readonly chance: number; readonly hits: ReadonlyArray<number> }> =>
  p.reduce<ReadonlyArray<{ chance: number; hits: ReadonlyArray<number> }>>(
    (before, x) =>
      before.flatMap(({ chance, hits }) => [
        { chance: chance * x, hits: [...hits, 1] },
        { chance: chance * (1 - x), hits: [...hits, 0] }
      ]),
    [{ chance: 1, hits: [] }]
  )

describe("expected votes", () => {
  it("by hand: one voter of one group, who looks at the second place half the time", () => {
    const people = { voters: 1, positionBias: 0.5, shares: [1] }
    const approvals = [[0.5], [0.8]]
    expect(expectedVotes("rate", people, approvals)).toEqual([0.5, 0.8])
    expect(expectedVotes("raw", people, approvals)).toEqual([0.5, 0.4])
    // votes (1,1) .5 * .4: half each; (1,0) .3: first; (0,1) .2: second; (0,0) .3: half each
    const [first, second] = expectedVotes("slate-normalised", people, approvals)!
    expect(first).toBeCloseTo(0.1 + 0.3 + 0.15, 12)
    expect(second).toBeCloseTo(0.1 + 0.2 + 0.15, 12)
    expect(expectedVotes("min-max", people, approvals)).toBeNull()
    expect(expectedVotes("relevance", people, approvals)).toBeNull()
  })

  it("of a slate's shares equal brute force over two voters of two groups, and sum to 1", () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(share, { minLength: 2, maxLength: 2 }), { minLength: 1, maxLength: 3 }),
        share,
        share,
        (approvals, first, positionBias) => {
          const people = { voters: 2, positionBias, shares: [first, 1 - first] }
          const size = approvals.length
          const brute = new Array<number>(size).fill(0)
          for (const [g, h] of [0, 1].flatMap((a) => [0, 1].map((b) => [a, b] as const))) {
            const looks = (group: number) => approvals.map((of, k) => positionBias ** k * of[group]!)
            for (const { chance, hits } of outcomes([...looks(g), ...looks(h)])) {
              const votes = approvals.map((_, k) => hits[k]! + hits[size + k]!)
              const total = sum(votes)
              votes.forEach((vote, k) => {
                const part = total === 0 ? 1 / size : vote / total
                brute[k]! += people.shares[g]! * people.shares[h]! * chance * part
              })
            }
          }
          const found = expectedVotes("slate-normalised", people, approvals)!
          found.forEach((x, k) => {
            expect(x).toBeCloseTo(brute[k]!, 10)
          })
          expect(sum(found)).toBeCloseTo(1, 10)
        }
      ),
      { seed: 1, numRuns: 60 }
    )
  })
})

const settings: OpeSettings = {
  propensity: "sequence",
  set: "product",
  weighting: "joint",
  cu: "label",
  votes: "rate",
  diversity: "soft-entropy",
  lambda: 0,
  shrink: 1,
  model: "fitted"
}

interface Case {
  readonly known: KnownSlates
  readonly policy: ReadonlyArray<number>
  readonly behaviour: ReadonlyArray<number>
}

const makeCase = (replacement: boolean) =>
  fc
    .record({
      policy: fc.array(share, { minLength: 3, maxLength: 3 }),
      behaviour: fc.array(share, { minLength: 3, maxLength: 3 }),
      approvals: fc.array(fc.array(share, { minLength: 2, maxLength: 2 }), { minLength: 3, maxLength: 3 }),
      positionBias: share
    })
    .map(
      ({ approvals, behaviour, policy, positionBias }): Case => ({
        known: { voters: 3, positionBias, shares: [0.7, 0.3], size: 2, replacement, approvals },
        policy: normalised(policy).map(Math.log),
        behaviour: normalised(behaviour).map(Math.log)
      })
    )

/** Every slate with its probability under the behaviour policy, votes as expected. */
const everySlate = ({ behaviour, known, policy }: Case, votes: OpeSettings["votes"]) => {
  const scored = (logs: ReadonlyArray<number>) => logs.map((logprob) => ({ logprob, tokens: 1 }))
  const texts = known.approvals.map((_, k) => `answer ${k}`)
  return texts.flatMap((_, a) =>
    texts.flatMap((_, b) => {
      if (!known.replacement && a === b) return []
      const [p0a, p0b] = [Math.exp(behaviour[a]!), Math.exp(behaviour[b]!)]
      const chance = known.replacement ? p0a * p0b : (p0a * p0b) / (1 - p0a)
      const expected = expectedVotes(votes, known, [known.approvals[a]!, known.approvals[b]!])!
      // Already on the scale: as raw votes, or for `rate` with an exposure of 1.
      const slate: ScoredSlate = {
        query: "q",
        texts: [texts[a]!, texts[b]!],
        votes: expected,
        exposure: [1, 1],
        policy: scored([policy[a]!, policy[b]!]),
        behaviour: scored([behaviour[a]!, behaviour[b]!]),
        pool: { texts, policy: scored(policy), behaviour: scored(behaviour), truth: known }
      }
      return [{ chance, slate }]
    })
  )
}

/** The exact expectation of an estimate over one logged slate. */
const expectation = (name: EstimatorName, one: Case, s: OpeSettings, votes = s.votes): number =>
  sum(everySlate(one, votes).map(({ chance, slate }) => chance * valueOf(name, makeRounds([slate], s).rounds)))

describe("enumerated value", () => {
  const forms = fc.record({
    weighting: fc.constantFrom("joint" as const, "independent" as const),
    cu: fc.constantFrom("label" as const, "prob" as const),
    votes: fc.constantFrom("rate" as const, "raw" as const),
    lambda: fc.constantFrom(0, 0.5)
  })

  it("is what IPS and DR with `sequence` propensities hit in exact expectation, joint and independent", () => {
    fc.assert(
      fc.property(makeCase(true), forms, (one, form) => {
        const s = { ...settings, ...form }
        const truth = enumeratedValue(one.known, s, s.weighting, one.policy, one.behaviour)!
        expect(expectation("ips", one, s)).toBeCloseTo(truth, 9)
        expect(expectation("dr", one, s)).toBeCloseTo(truth, 9)
        expect(expectation("dr", one, { ...s, model: "exact" })).toBeCloseTo(truth, 9)
      }),
      { seed: 2, numRuns: 60 }
    )
  })

  it("holds for a slate's shares of votes too, with POPE's own reward", () => {
    fc.assert(
      fc.property(makeCase(true), fc.constantFrom("joint" as const, "independent" as const), (one, weighting) => {
        const pope = { ...settings, weighting, cu: "prob", votes: "slate-normalised", lambda: 1 } as const
        const truth = enumeratedValue(one.known, pope, weighting, one.policy, one.behaviour)!
        // expected shares sum to 1 already, so normalising them again changes nothing
        expect(expectation("ips", one, pope)).toBeCloseTo(truth, 9)
      }),
      { seed: 3, numRuns: 40 }
    )
  })

  it("without replacement it is what Plackett-Luce set weights hit", () => {
    fc.assert(
      fc.property(makeCase(false), (one) => {
        const s = { ...settings, set: "plackett-luce" } as const
        const truth = enumeratedValue(one.known, s, "joint", one.policy, one.behaviour)!
        expect(expectation("ips", one, s)).toBeCloseTo(truth, 9)
        // and product weights do not, in general
        expect(enumeratedValue(one.known, s, "independent", one.policy, one.behaviour)).toBeNull()
      }),
      { seed: 4, numRuns: 60 }
    )
  })

  it("the other propensities are biased, and the enumeration says by how much", () => {
    const one: Case = {
      known: { voters: 3, positionBias: 1, shares: [1], size: 2, replacement: true, approvals: [[0.9], [0.1], [0.5]] },
      policy: normalised([6, 1, 1]).map(Math.log),
      behaviour: normalised([1, 1, 2]).map(Math.log)
    }
    const truth = enumeratedValue(one.known, settings, "joint", one.policy, one.behaviour)!
    expect(truth).toBeCloseTo(0.75 * 0.9 + 0.125 * 0.6, 12)
    const two = (logs: ReadonlyArray<number>, tokens: ReadonlyArray<number>) =>
      logs.map((logprob, k) => ({ logprob, tokens: tokens[k]! }))
    const biased = sum(
      everySlate(one, "rate").map(({ chance, slate }) => {
        const place = slate.texts.map((text) => Number(text.slice(-1)))
        const tokens = place.map((k) => [4, 1, 2][k]!)
        const scored = {
          ...slate,
          policy: two(
            slate.policy.map((x) => x.logprob),
            tokens
          ),
          behaviour: two(
            slate.behaviour.map((x) => x.logprob),
            tokens
          )
        }
        return chance * valueOf("ips", makeRounds([scored], { ...settings, propensity: "length-normalised" }).rounds)
      })
    )
    expect(Math.abs(biased - truth)).toBeGreaterThan(0.05)
  })

  it("with an exact model DR does not vary with the weights: every slate gives the same", () => {
    fc.assert(
      fc.property(makeCase(true), (one) => {
        const s = { ...settings, model: "exact" } as const
        const values = everySlate(one, "rate").map(({ slate }) => valueOf("dr", makeRounds([slate], s).rounds))
        const truth = enumeratedValue(one.known, s, "joint", one.policy, one.behaviour)!
        for (const value of values) expect(value).toBeCloseTo(truth, 9)
      }),
      { seed: 5, numRuns: 40 }
    )
  })

  it("says null where it cannot tell, and counts slates", () => {
    const known = {
      voters: 2,
      positionBias: 1,
      shares: [1],
      size: 5,
      replacement: true,
      approvals: new Array(8).fill([0.5])
    }
    const logs = new Array(8).fill(Math.log(1 / 8))
    expect(slateCount(known)).toBe(8 ** 5)
    expect(slateCount({ ...known, replacement: false, size: 2 })).toBe(56)
    const normal = { ...settings, cu: "prob", votes: "slate-normalised" } as const
    expect(enumeratedValue(known, normal, "joint", logs, logs)).toBeNull()
    expect(enumeratedValue(known, { ...settings, votes: "min-max" }, "joint", logs, logs)).toBeNull()
    expect(enumeratedValue(known, settings, "joint", logs, logs)).toBeCloseTo(0.5, 12)
  })
})

describe("reward model", () => {
  const slate = (query: string, texts: ReadonlyArray<string>, votes: ReadonlyArray<number>): ScoredSlate => {
    const scored = texts.map(() => ({ logprob: -1, tokens: 1 }))
    return { query, texts, votes, policy: scored, behaviour: scored }
  }

  it("never sees a slate's own votes: other slates of the query by text, shrunk to the other queries' mean", () => {
    const log = [slate("a", ["x", "y"], [4, 0]), slate("a", ["x", "z"], [2, 2]), slate("b", ["u", "v"], [1, 3])]
    const { rounds } = makeRounds(log, { ...settings, votes: "raw", weighting: "independent", shrink: 1 })
    // others' mean for a is 2, for b (4 + 0 + 2 + 2) / 4 = 2; x of the first slate was seen once elsewhere, with 2: (2 + 2) / 2
    expect(rounds.map(({ model }) => model)).toEqual([2, 2, 3, 2, 2, 2])
    // changing a slate's own votes leaves its predictions
    const changed = makeRounds([slate("a", ["x", "y"], [100, 50]), ...log.slice(1)], {
      ...settings,
      votes: "raw",
      weighting: "independent"
    })
    expect(changed.rounds.slice(0, 2).map(({ model }) => model)).toEqual([2, 2])
    expect(changed.rounds[2]!.model).toBe(51)
  })

  it("`exact` wants a known truth", () => {
    expect(() => makeRounds([slate("a", ["x"], [1])], { ...settings, votes: "raw", model: "exact" })).toThrow(
      /truth is known/
    )
  })
})
