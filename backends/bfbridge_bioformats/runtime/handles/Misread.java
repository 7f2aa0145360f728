package bfbridge;

import java.lang.reflect.Field;
import loci.formats.FormatTools;
import loci.formats.IFormatReader;

/** Readers that take a file for less than it is, which only what they hold of it shows. */
public final class Misread {

  private Misread() {}

  /** Why what an open reader says of its file is not so, or null. */
  public static String why(IFormatReader reader) throws ReflectiveOperationException {
    if (!reader.getClass().getSimpleName().equals("MINCReader")) {
      return null;
    }
    // It keeps all pixels. Of MINC 2 it looks for the length of the time axis in a wrong place, and
    // it takes the axes for T, Z, Y, X in this order, whatever the file says.
    Field field = reader.getClass().getDeclaredField("pixelData");
    field.setAccessible(true);
    byte[][][] planes = (byte[][][]) field.get(reader);
    int row = reader.getSizeX() * FormatTools.getBytesPerPixel(reader.getPixelType());
    if (planes == null || planes.length == 0 || planes[0].length == 0) {
      return "its pixels have more axes, or are of another type, than Bio-Formats takes of MINC";
    }
    if (planes.length != reader.getImageCount()) {
      return "it holds " + planes.length + " planes, and Bio-Formats takes it for one of "
          + reader.getImageCount() + ": it does not see a time axis of MINC 2, nor the axes' order";
    }
    if (planes[0].length != reader.getSizeY() || planes[0][0].length != row) {
      return "its axes are in another order than Bio-Formats takes them for";
    }
    return null;
  }
}
