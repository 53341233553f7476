/** What an executable says of itself, with or without a device: memory by XLA's own plan, the optimised program, its bytes. */
import { bytesAt, functionAt } from "../ffi.ts"
import { type HloModule, readModuleWithConfig } from "./hlo/Hlo.ts"
import { Arguments, codes, nativeText, type Pjrt, PjrtFailure, textAt } from "./pjrt.ts"

/** Bytes of an executable's own, by XLA's analysis. */
export interface CompiledMemory {
  readonly arguments: number
  readonly outputs: number
  /** Of outputs, what lies in donated arguments. */
  readonly aliased: number
  /** Intermediate values at their peak. */
  readonly temporary: number
  /** All of it at once at its peak, arguments and outputs included; null where the plugin is older than the figure. */
  readonly peak: number | null
}

/** XLA's account of the memory. Throws PjrtFailure where the plugin keeps none. */
export const memoryOf = (pjrt: Pjrt, executable: bigint): CompiledMemory => {
  const a = pjrt.call("Executable_GetCompiledMemoryStats", (args) => args.pointer(16, executable))
  const peak = a.sizeAt(104)
  return {
    arguments: a.sizeAt(32),
    outputs: a.sizeAt(40),
    aliased: a.sizeAt(48),
    temporary: a.sizeAt(56),
    peak: peak === 0 ? null : peak
  }
}

/** The program after all of XLA's passes. Throws PjrtFailure where the plugin does not give it. */
export const optimizedProgram = (pjrt: Pjrt, executable: bigint): HloModule => {
  const program = new Arguments(48)
  const ask = () =>
    pjrt.call("Executable_OptimizedProgram", (a) => a.pointer(16, executable).pointer(24, program.address))
  // asked without a place it says how long it is
  ask()
  const size = program.sizeAt(24)
  const place = nativeText(new Uint8Array(size))
  program.pointer(16, place.address)
  ask()
  const format = textAt(program.pointerAt(32), program.sizeAt(40))
  if (format !== "hlo_with_config") {
    throw new PjrtFailure("Executable_OptimizedProgram", codes.unimplemented, `it comes as ${format}`)
  }
  return readModuleWithConfig(bytesAt(place.address, size))
}

/** An executable in bytes, for the same plugin on the same kind of device. */
export const serialized = (pjrt: Pjrt, executable: bigint): Uint8Array => {
  const a = pjrt.call("Executable_Serialize", (args) => args.pointer(16, executable))
  const bytes = bytesAt(a.pointerAt(24), a.sizeAt(32))
  functionAt<[bigint], void>(a.pointerAt(48), "void", ["void *"])(a.pointerAt(40))
  return bytes
}
