import { assert, test } from "@effect/vitest"
import { stream, uniformAt } from "../../src/device/random.ts"
import { bucketOf } from "../../src/device/xla/buckets.ts"
import { grownTo, leaveAt, type SizeFor, stepsOfRun } from "../../src/models/rolling.ts"

const byTable: SizeFor = (name, size) => bucketOf(name, size).high

test("rows leave a batch at the sizes that programs are compiled for, down to a sixteenth of the first or to 8", () => {
  // three quarters of 64 is 48; of 48 it is 36, of which 32 is computed; 16 and less are halved
  const sizes: Array<number> = [64]
  while (sizes.at(-1)! > 0) sizes.push(leaveAt(sizes.at(-1)!, 64, byTable))
  assert.deepStrictEqual(sizes, [64, 48, 32, 24, 16, 8, 4, 0])
  assert.strictEqual(leaveAt(8, 256, byTable), 0)
  // 49 rows are computed as 64; a single row goes on to its end
  assert.strictEqual(leaveAt(49, 49, byTable), 48)
  assert.strictEqual(leaveAt(1, 1, byTable), 0)
  // shares of four devices
  assert.strictEqual(
    leaveAt(8, 8, (_, size) => Math.ceil(size / 4) * 4),
    4
  )
  for (let rows = 1; rows <= 300; rows++) {
    for (const sizeFor of [undefined, byTable]) {
      const leave = leaveAt(rows, 300, sizeFor)
      assert.isTrue(leave >= 0 && leave < rows, `${rows} rows, left at ${leave}`)
      if (leave > 0) assert.isBelow(byTable("rows", leave), byTable("rows", rows) + (sizeFor ? 0 : 1))
    }
  }
})

test("a cache grows by a quarter, at least 32 places, to sizes that are computed, and no further than is needed", () => {
  // 25 + 32; 57 + 32; the rest
  assert.deepStrictEqual([grownTo(25, 97), grownTo(57, 97), grownTo(89, 97)], [57, 89, 97])
  // 57 is computed as 64; 64 + 32 is a size; 97 would be computed as 128, and few answers come to the last place
  assert.deepStrictEqual([grownTo(25, 97, byTable), grownTo(64, 97, byTable), grownTo(96, 97, byTable)], [64, 96, 97])
  // 500 + 125 is computed as 768, 768 + 192 as 1024
  assert.deepStrictEqual([grownTo(500, 1700, byTable), grownTo(768, 1700, byTable)], [768, 1024])
  for (const sizeFor of [undefined, byTable]) {
    for (let most = 1; most <= 700; most += 7) {
      let held = 0
      for (let times = 0; held < most; times++) {
        const grown = grownTo(held, most, sizeFor)
        assert.isTrue(grown > held && grown <= most, `${held} of ${most} to ${grown}`)
        assert.isBelow(times, 12)
        held = grown
      }
    }
  }
})

test("a program has room for the longest answer, or for as many steps as a run should do", () => {
  assert.deepStrictEqual(
    [1, 2, 5, 8, 24, 72].map((most) => stepsOfRun(32, most)),
    [1, 2, 8, 8, 32, 32]
  )
  assert.strictEqual(stepsOfRun(1, 72), 1)
})

test("at least .8 of what is decoded writes a token, whatever the mean length, where lengths are geometric", () => {
  const geometric = (mean: number, name: string, i: number) =>
    Math.min(8 * mean, 1 + Math.floor(Math.log(1 - uniformAt(stream(0, name, mean), i)) / Math.log(1 - 1 / mean)))
  for (const mean of [10, 19, 43, 150]) {
    for (const first of [8, 16, 64, 256]) {
      let [written, computed] = [0, 0]
      for (let batch = 0; batch < 2048 / first; batch++) {
        let live = Array.from({ length: first }, (_, i) => geometric(mean, "lengths", batch * first + i))
        written += live.reduce((sum, length) => sum + length, 0)
        let rows = first
        for (let step = 0; live.length > 0; step++) {
          if (live.length <= leaveAt(rows, first, byTable)) rows = live.length
          computed += rows
          live = live.filter((length) => length > step + 1)
        }
      }
      assert.isAtLeast(written / computed, 0.8, `mean ${mean}, ${first} rows`)
    }
  }
})
