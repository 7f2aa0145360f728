package bfbridge;

import java.io.IOException;
import java.util.Deque;
import java.util.concurrent.ConcurrentLinkedDeque;
import loci.formats.FormatException;
import loci.formats.ImageReader;

/** Which reader class a file belongs to, as loci.formats.ImageReader finds it. */
public final class Formats {

  private static final int KEPT = 2;
  private static final Deque<ImageReader> DETECTORS = new ConcurrentLinkedDeque<>();

  private Formats() {}

  /** The name of the class of the first reader in Bio-Formats' list that takes the file. */
  public static String readerOf(String id) throws FormatException, IOException {
    ImageReader detector = DETECTORS.poll();
    if (detector == null) {
      // Makes one reader of each of some 170 classes.
      detector = new ImageReader();
    }
    try {
      return detector.getReader(id).getClass().getName();
    } finally {
      detector.close();
      if (DETECTORS.size() < KEPT) {
        DETECTORS.add(detector);
      }
    }
  }
}
