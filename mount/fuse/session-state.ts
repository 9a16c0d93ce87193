/**
 * Cells of the memory that all threads of a session share, 32 bits each. `stopping`: not 0, the reading is to end. `alive`: when the main
 * thread last moved, in seconds since 1970.
 */
export const STATE = { stopping: 0, alive: 1, length: 2 } as const;
