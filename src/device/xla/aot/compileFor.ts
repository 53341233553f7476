/**
 * A program as a device of a target would compile it: in its class, padded to the buckets of its sizes, attention by cuDNN in
 * bf16, and the answers to what a card would cost before one is at hand.
 */
import type { Program } from "../../../tensor/Program.ts"
import type { TensorSpec } from "../../HostTensor.ts"
import { type Mesh, meshDevices } from "../../mesh.ts"
import type { NumericClass } from "../../numericClass.ts"
import { type CompileOptions, compileOptions } from "../compileOptions.ts"
import { fasterBy } from "../faster.ts"
import { inBf16 } from "../inBf16.ts"
import { inOrder } from "../inOrder.ts"
import { inShares, layoutsFor, Placing } from "../Placing.ts"
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
  /** The devices that share it, and what stays on them; one device where it is left out. */
  readonly over?: { readonly mesh: Mesh; readonly residents: ReadonlyMap<string, TensorSpec> }
}

/** The module of a program for some sizes of its named dimensions. */
export const writeFor = (program: Program, sizes: Sizes, options: ForTarget): Written => {
  const { dtype, fused = dtype === "bf16", over, stored } = options
  const own = dtype === "bf16" ? inBf16(program, stored === undefined ? {} : { stored }) : program
  const { fuse, keep } = fasterBy({ attention: fused, mesh: over?.mesh })
  if (over === undefined) {
    const entry = new ProgramEntry(inOrder(own), undefined, { keep })
    return writeProgram(entry.static(sizes).program, undefined, fuse)
  }
  const { mesh, residents } = over
  const entry = new ProgramEntry(inOrder(own), new Placing(mesh, () => undefined).bucket, { keep })
  const { program: fixed } = entry.static(sizes)
  const layouts = layoutsFor(mesh, entry.program, fixed, residents)
  return writeProgram(inShares(fixed, layouts, keep), layouts, fuse)
}

/** The same, compiled. Rejects with PjrtFailure. */
export const compileFor = async (
  topology: Topology,
  program: Program,
  sizes: Sizes,
  options: ForTarget
): Promise<{ readonly written: Written; readonly compiled: Compiled }> => {
  const written = writeFor(program, sizes, options)
  const partitions = options.over === undefined ? 1 : meshDevices(options.over.mesh)
  return { written, compiled: await topology.compile(written.text, compileOptions({ ...options, partitions })) }
}
