/**
 * A program as a device of a target would compile it: in its class, padded to the buckets of its sizes, attention by cuDNN in
 * bf16, and the answers to what a card would cost before one is at hand.
 */
import type { Program } from "../../../tensor/Program.ts"
import type { NumericClass } from "../../numericClass.ts"
import { type CompileOptions, compileOptions } from "../compileOptions.ts"
import { inBf16 } from "../inBf16.ts"
import { inOrder } from "../inOrder.ts"
import { fusedAttention } from "../lower/fusedAttention.ts"
import { ProgramEntry } from "../ProgramEntry.ts"
import type { Sizes } from "../Variant.ts"
import { type Written, writeProgram } from "../writer.ts"
import type { Compiled, Topology } from "./Topology.ts"

export interface ForTarget extends CompileOptions {
  readonly dtype: NumericClass["dtype"]
  /** Names of inputs that are stored in bf16, in the class bf16: weights that nothing changes. */
  readonly stored?: ReadonlySet<string>
  /** Whether attention goes by cuDNN; default in bf16. */
  readonly fused?: boolean
}

/** The module of a program for some sizes of its named dimensions. */
export const writeFor = (program: Program, sizes: Sizes, options: ForTarget): Written => {
  const { dtype, fused = dtype === "bf16", stored } = options
  const own = dtype === "bf16" ? inBf16(program, stored === undefined ? {} : { stored }) : program
  const entry = new ProgramEntry(inOrder(own), undefined, { attention: fused })
  return writeProgram(entry.static(sizes).program, undefined, fused ? fusedAttention : undefined)
}

/** The same, compiled. Rejects with PjrtFailure. */
export const compileFor = async (
  topology: Topology,
  program: Program,
  sizes: Sizes,
  options: ForTarget
): Promise<{ readonly written: Written; readonly compiled: Compiled }> => {
  const written = writeFor(program, sizes, options)
  return { written, compiled: await topology.compile(written.text, compileOptions(options)) }
}
