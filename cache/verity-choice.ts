/** Whether objects get fs-verity. `auto`: where kernel and filesystem have it. */
export const VERITY_CHOICES = ['auto', 'off'] as const;
export type VerityChoice = (typeof VERITY_CHOICES)[number];
