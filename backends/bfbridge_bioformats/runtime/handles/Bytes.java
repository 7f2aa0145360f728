package bfbridge;

import java.util.Arrays;

/** What Python asks of arrays; java.util.Arrays has a hundred methods more to make known to it. */
public final class Bytes {

  private Bytes() {}

  /** Sets all to zero. */
  public static void clear(byte[] array) {
    Arrays.fill(array, (byte) 0);
  }
}
