package bfbridge;

import java.util.HashMap;
import java.util.Map;
import loci.formats.ome.OMEPyramidStore;
import ome.xml.model.primitives.NonNegativeInteger;

/**
 * A metadata store with a limited number of images, channels and planes.
 *
 * Readers create an entry for each of them first, for any number that a header declares.
 */
final class Bounded extends OMEPyramidStore {

  private static final long serialVersionUID = 1L;

  private final int images;
  private final int channels;
  private final int planes;
  private final Map<Integer, Integer> channelsOf = new HashMap<>();
  private final Map<Integer, Integer> planesOf = new HashMap<>();
  private long allChannels;
  private long allPlanes;

  Bounded(int images, int channels, int planes) {
    this.images = images;
    this.channels = channels;
    this.planes = planes;
  }

  @Override
  public void setImageID(String id, int image) {
    if (image >= images) {
      throw new Exceeded("images", images);
    }
    super.setImageID(id, image);
  }

  @Override
  public void setChannelID(String id, int image, int channel) {
    allChannels += added(channelsOf, image, channel);
    if (allChannels > channels) {
      throw new Exceeded("channels", channels);
    }
    super.setChannelID(id, image, channel);
  }

  @Override
  public void setPlaneTheZ(NonNegativeInteger z, int image, int plane) {
    allPlanes += added(planesOf, image, plane);
    if (allPlanes > planes) {
      throw new Exceeded("planes", planes);
    }
    super.setPlaneTheZ(z, image, plane);
  }

  /** Number of entries that an image gains with the entry of this number. */
  private static int added(Map<Integer, Integer> counts, int image, int number) {
    int before = counts.getOrDefault(image, 0);
    if (number < before) {
      return 0;
    }
    counts.put(image, number + 1);
    return number + 1 - before;
  }
}
