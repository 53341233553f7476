/** Loops that may end early: what they refuse, and that whoever runs all of their trips sees no difference. */
import { expect, test } from "vitest"
import { interpret } from "../../src/tensor/interpret.ts"
import { loop } from "../../src/tensor/ops/control.ts"
import { add, cast, greater, max, sub } from "../../src/tensor/ops/elementwise.ts"
import { constant, iota } from "../../src/tensor/ops/leaf.ts"
import { mayEndEarly } from "../../src/tensor/ops/mayEndEarly.ts"
import { program } from "../../src/tensor/Program.ts"
import { print } from "../../src/tensor/print.ts"
import { input } from "../../src/tensor/Tensor.ts"

/** Counts `left` down, and adds 1 to a sum as often. */
const counted = (trips = 9) =>
  loop({ trips, carried: [input("left", "i32", []), input("sum", "i32", [])] }, ({ carried: [left, sum] }) => {
    const one = cast(greater(left!, 0), "i32")
    return { carried: [sub(left!, one), add(sum!, one)] }
  })
const feeds = { left: { shape: [], data: [4] }, sum: { shape: [], data: [10] } }

test("a loop that may end early gives what it gave, and says so in its text", () => {
  const of = ({ carried: [left, sum] }: ReturnType<typeof counted>) =>
    program("count", { outputs: { left: left!, sum: sum! } })
  const [whole, early] = [of(counted()), of(mayEndEarly(counted()))]
  for (const one of [whole, early]) {
    const { outputs } = interpret(one, feeds)
    expect([...outputs["left"]!.data, ...outputs["sum"]!.data]).toEqual([0, 14])
  }
  expect(print(whole)).not.toContain("endsEarly")
  expect(print(early)).toContain("endsEarly=true")
})

test("what does not come of the first value, and another first value, are refused; one trip is no loop", () => {
  const beside = loop(
    { trips: 9, carried: [input("left", "i32", []), input("sum", "i32", [])] },
    ({ carried: [left, sum] }) => ({ carried: [max(sub(left!, 1), 0), add(sum!, 1)] })
  )
  expect(() => mayEndEarly(beside)).toThrow("carried value 1 does not come of the first")
  const rows = loop({ trips: 9, carried: [iota([3], 0)] }, ({ carried: [x] }) => ({ carried: [sub(x!, 1)] }))
  expect(() => mayEndEarly(rows)).toThrow("the first carried value is an i32 scalar")
  expect(() => mayEndEarly({ carried: [], stacked: [] })).toThrow("the first carried value is an i32 scalar")
  const once = counted(1)
  expect(mayEndEarly(once).carried).toEqual(once.carried)
  expect(mayEndEarly({ carried: [constant(1, "i32")], stacked: [] }).stacked).toEqual([])
})
