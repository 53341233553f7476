/**
 * Loops and barriers.
 *
 * A barrier must hold: common-subexpression elimination is off in this backend, and each output is a Reshape (which
 * shares its operand's memory) whose target shape is the operand's shape plus 0 times the number of elements of every
 * input: no output can be there before all inputs are, and nothing is copied.
 */

import type { PrimitiveOf, Tensor } from "../../../tensor/Tensor.ts"
import { Unsuitable } from "../../failure.ts"
import { declare, type Graph, type Name } from "../Graph.ts"
import type { Lower, Lowering } from "../Lowering.ts"
import { maxUnrolled } from "../provider.ts"

export const barrier: Lower<PrimitiveOf<"barrier">> = (_, inputs, outputs, to) => {
  const { graph } = to
  const values = inputs.map((x) => to.value(x))
  // the product of a shape is a size that every provider tells without a look at the elements
  const counts = values.map(({ name }) =>
    to.context.choices.counts === "Size"
      ? graph.node("Size", [name])
      : graph.node("ReduceProd", [graph.node("Shape", [name])], { keepdims: 0 })
  )
  const count = counts.length === 1 ? counts[0]! : graph.node("Max", counts)
  const nothing = graph.node("Mul", [count, graph.scalar("i64", 0)])
  values.forEach(({ name, shape }, i) => {
    if (shape.length === 0) {
      // a scalar has no shape to hang the dependence on: pick it, as element 0, from a vector
      const index = graph.node("Reshape", [nothing, graph.int64s([])])
      to.set(outputs[i]!, graph.node("Gather", [graph.node("Reshape", [name, graph.int64s([1])]), index], { axis: 0 }))
      return
    }
    const target = graph.node("Add", [graph.shapeValue(shape), nothing])
    to.set(outputs[i]!, graph.node("Reshape", [name, target], { allowzero: 1 }), shape)
  })
}

/** Lowers the nodes that lead to some tensors; given by the writer, which knows every operation. */
export type LowerAll = (results: ReadonlyArray<Tensor>, to: Lowering) => void

export const loop = (
  op: PrimitiveOf<"loop">,
  inputs: ReadonlyArray<Tensor>,
  outputs: ReadonlyArray<Tensor>,
  to: Lowering,
  lowerAll: LowerAll
): void => {
  const { graph } = to
  const { body, carried, scanned, reverse } = op
  if (to.context.choices.loops === "unrolled") {
    unrolled(op, inputs, outputs, to, lowerAll)
    return
  }
  const trips = graph.dimValue(op.trips)
  const inside = to.inner()
  inside.graph.label = graph.label
  const iteration = graph.fresh()
  const going = graph.fresh()
  const states = body.parameters.slice(1, 1 + carried)
  const stateNames = states.map(() => graph.fresh())

  const last = reverse ? graph.node("Sub", [trips, graph.int64s([1])]) : undefined
  const at: Name = last
    ? inside.graph.node("Reshape", [inside.graph.node("Sub", [last, iteration]), graph.int64s([])])
    : iteration
  inside.set(body.parameters[0]!, inside.graph.node("Cast", [at], { to: 6 }))
  states.forEach((state, i) => {
    inside.set(state, stateNames[i]!)
  })
  body.parameters.slice(1 + carried).forEach((parameter, i) => {
    const source = inputs[carried + i]!
    if (i < scanned) inside.set(parameter, inside.graph.node("Gather", [to.full(source), at], { axis: 0 }))
    else {
      const { name, shape } = to.value(source)
      inside.set(parameter, name, shape)
    }
  })
  lowerAll(body.results, inside)

  // every result of a body is a value of its own, made inside it
  const results = body.results.map((x) => inside.graph.node("Identity", [inside.full(x)]))
  const condition = inside.graph.node("Identity", [going])
  const bodyGraph = inside.graph.finishBody(
    "body",
    [
      declare(iteration, "i64", []),
      declare(going, "bool", []),
      ...states.map((x, i) => declare(stateNames[i]!, x.dtype, x.shape))
    ],
    [declare(condition, "bool", []), ...body.results.map((x, i) => declare(results[i]!, x.dtype, x.shape))]
  )
  const operands = [trips, graph.scalar("bool", 1), ...inputs.slice(0, carried).map((x) => to.full(x))]
  const made = graph.nodeOf("Loop", operands, { body: { graph: bodyGraph } }, { outputs: outputs.length })
  outputs.forEach((output, i) => {
    if (i < carried || !reverse) {
      to.set(output, made[i]!)
      return
    }
    // stacked in the order of iterations: turn it round
    const turned = [graph.int64s([-1]), graph.int64s([-(2 ** 53)]), graph.int64s([0]), graph.int64s([-1])]
    to.set(output, graph.node("Slice", [made[i]!, ...turned]))
  })
}

/** The number of trips that a loop is unrolled for. */
const tripsOf = (op: PrimitiveOf<"loop">, { context }: Lowering): number => {
  if (typeof op.trips === "number") return op.trips
  context.unrolled.set(op.trips.text, op.trips)
  return context.trips?.get(op.trips.text) ?? 1
}

/** The body once for each trip, in the loop's own graph. */
const unrolled = (
  op: PrimitiveOf<"loop">,
  inputs: ReadonlyArray<Tensor>,
  outputs: ReadonlyArray<Tensor>,
  to: Lowering,
  lowerAll: LowerAll
): void => {
  const { graph } = to
  const { body, carried, scanned, reverse } = op
  const trips = tripsOf(op, to)
  if (trips > maxUnrolled) {
    throw new Unsuitable(
      `a loop of ${trips} trips: this provider has no loops, and at most ${maxUnrolled} trips are unrolled; use larger chunks`
    )
  }
  let states = inputs.slice(0, carried).map((x) => to.value(x))
  const stacks: Array<Array<Name>> = body.results.slice(carried).map(() => [])
  for (let i = 0; i < trips; i++) {
    const at = reverse ? trips - 1 - i : i
    const trip = to.trip()
    trip.set(body.parameters[0]!, graph.scalar("i32", at))
    body.parameters.slice(1, 1 + carried).forEach((parameter, n) => {
      trip.set(parameter, states[n]!.name, states[n]!.shape)
    })
    body.parameters.slice(1 + carried).forEach((parameter, n) => {
      const source = inputs[carried + n]!
      if (n < scanned)
        trip.set(parameter, graph.node("Gather", [to.full(source), graph.scalar("i32", at)], { axis: 0 }))
      else {
        const { name, shape } = to.value(source)
        trip.set(parameter, name, shape)
      }
    })
    lowerAll(body.results, trip)
    states = body.results.slice(0, carried).map((x) => trip.value(x))
    body.results.slice(carried).forEach((x, n) => {
      const one = graph.node("Unsqueeze", [trip.full(x), graph.int64s([0])])
      if (reverse) stacks[n]!.unshift(one)
      else stacks[n]!.push(one)
    })
  }
  outputs.slice(0, carried).forEach((output, i) => {
    to.set(output, states[i]!.name, states[i]!.shape)
  })
  outputs.slice(carried).forEach((output, i) => {
    const pieces = stacks[i]!
    to.set(output, pieces.length === 1 ? pieces[0]! : stacked(pieces, output, graph))
  })
}

/** The pieces of all trips; nothing of a tensor without any. */
const stacked = (pieces: ReadonlyArray<Name>, output: Tensor, graph: Graph): Name =>
  pieces.length > 0
    ? graph.node("Concat", pieces, { axis: 0 })
    : graph.node("Expand", [graph.scalar(output.dtype, 0), graph.shapeValue(output.shape)])
