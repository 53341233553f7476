import * as NodeServices from "@effect/platform-node/NodeServices"
import { Layer } from "effect"
import { testDevice } from "../support/testDevice.ts"

/** The device of tests, by default the CPU with one thread, and files. */
export const cpu = Layer.mergeAll(testDevice, NodeServices.layer)
