/** Whether this machine has an adapter for WebGPU, and which. */
import { look, type Missing, tellFound } from "../../look.ts"
import { LibraryAbsent, openRuntime } from "../runtime.ts"
import { AdapterAbsent, openGpu } from "./Gpu.ts"
import type { Adapter } from "./vulkan.ts"

/** What was found, or the sentence that says why nothing was. */
export type Found = { readonly adapter: Adapter } | Missing

const remedy =
  "WebGPU needs a graphics card whose driver speaks Vulkan, Metal or Direct3D 12; `exp doctor` says what is here"

/** Looks for the adapter. Never rejects. */
export const findAdapter = async (): Promise<Found> => {
  const found = await look<{ readonly adapter: Adapter }>(import.meta.url, "an adapter")
  return "missing" in found ? { missing: `${found.missing}; ${remedy}` } : found
}

const here = (): Found => {
  try {
    return { adapter: openGpu(openRuntime(1)).adapter }
  } catch (error) {
    if (error instanceof AdapterAbsent || error instanceof LibraryAbsent) return { missing: error.message }
    throw error
  }
}

if (import.meta.main) tellFound(here())
